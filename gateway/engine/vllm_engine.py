"""The engine: vLLM in this process, its core in one of its own. Only `gateway.engine.vllm_*` import it.

Written against vLLM 0.32: `AsyncLLM`, its `generate`, and what `vllm_inputs` says. vLLM is imported when the
engine starts, because that alone takes seconds, and the gateway listens before.
"""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import psutil

from engine_config import hub
from engine_config.profile import EngineProfile
from gateway.engine import environment
from gateway.engine.fingerprint import fingerprint
from gateway.engine.interface import Constraint, Delta, EngineInfo, FinishReason, Job, Model, Sampling, Times
from gateway.engine.supervisor import Report
from gateway.engine.vocabulary import TokenizerFile
from gateway.errors import (
    EngineDied,
    EngineNotReady,
    GatewayError,
    GenerationFailed,
    InvalidValue,
    Overloaded,
)

SHUTDOWN_TIMEOUT = 10.0  # seconds for vLLM's processes to leave by themselves
ATTEMPTS = 2  # at a job whose picture vLLM's two caches disagree about
CPU_WORKER = "gateway.engine.vllm_cpu_worker.CPUWorker"  # imported in the engine's process, by its name
EXTENSION = "gateway.engine.vllm_worker.WorkerExtension"
FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}


def _ignore(stage: str, progress: str = "") -> None:
    """Report to nobody."""


class VLLMEngine:
    """LLaVA on vLLM, as a profile says. `report` is told each stage of the start."""

    def __init__(self, profile: EngineProfile, max_images: int, report: Report = _ignore) -> None:
        self._profile = profile
        self._max_images = max_images
        self._report = report
        self._llm: Any = None
        self._model: Model | None = None
        self._info: EngineInfo | None = None
        self._vocabulary: TokenizerFile | None = None
        self._inputs: Any = None
        self._constraints: Any = None
        self._ended = False
        self._not_ours = set(active_children())

    @property
    def model(self) -> Model:
        if self._model is None:
            raise EngineNotReady("the engine is starting", retry_after=5)
        return self._model

    @property
    def info(self) -> EngineInfo:
        if self._info is None:
            raise EngineNotReady("the engine is starting", retry_after=5)
        return self._info

    @property
    def failed(self) -> bool:
        return self._llm is not None and bool(self._llm.errored)

    async def start(self) -> None:
        """Fetch the model if need be and load it: in a thread, because both block."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if done.done():
                return
            done.set_exception(error) if error else done.set_result(value)

        def build() -> None:
            try:
                value, error = self._build(), None
            except BaseException as caught:  # noqa: BLE001  # carried to the awaiting task
                value, error = None, caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, error)

        # A daemon: a process that was told to leave must not wait for vLLM to come up.
        threading.Thread(target=build, name="engine-start", daemon=True).start()
        self._llm = await done
        from gateway.engine.vllm_constraints import Constraints
        from gateway.engine.vllm_inputs import Inputs

        settings = self._llm.model_config
        tokenizer = Path(self._profile.model_path, "tokenizer.json")
        self._vocabulary = await asyncio.to_thread(TokenizerFile.from_file, tokenizer)
        model = describe(self._profile, settings, self._vocabulary)
        self._inputs = Inputs(self._llm.renderer, model, settings.dtype)
        self._constraints = Constraints(self._llm.renderer.get_tokenizer(), settings.get_vocab_size())
        # Asked for once, vLLM has it at hand, and sends a request in the moment that it gets it.
        await self._llm.get_supported_tasks()
        self._info = await self._ask_info()
        self._model = model
        # What vLLM's imports leave in memory stays there: no garbage collection need look at it again.
        gc.collect()
        gc.freeze()

    async def check_constraint(self, constraint: Constraint) -> None:
        """Raise InvalidValue where no answer can be held to `constraint`. See `Engine.check_constraint`."""
        await self._constraints.check(constraint)

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        """Yield the deltas of `job`. Closing the generator aborts it. See `Engine.generate`."""
        constraint, attempt = job.sampling.constraint, 0
        try:
            for attempt in range(ATTEMPTS):
                followed = await self._constraints.follow(constraint) if constraint else None
                tensors = await self._inputs.tensors(job)
                prompt = self._inputs.of(job, tensors)
                outputs = self._llm.generate(
                    prompt, _sampling_params(job), f"{job.id}-{attempt}", priority=job.priority
                )
                async with aclosing(outputs):
                    async for output in outputs:
                        if _lost_picture(output):
                            break
                        if followed:
                            followed.take(output)
                        for delta in self._deltas(output, prompt["prompt_token_ids"], job.sampling):
                            yield delta
                    else:
                        return
        except GatewayError:
            raise
        except Exception as error:
            error.add_note(f"vLLM's request: {job.id}-{attempt}")
            raise _translated(error) from error
        raise GenerationFailed("the engine could not find the request's images in its cache")

    async def beat(self) -> None:
        """Return when the core has answered, which it does between two steps."""
        await self._llm.is_sleeping()

    def effort(self) -> float:
        """Return the CPU time of the core and its workers, in seconds."""
        used = 0.0
        for process in self._processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                used += times.user + times.system
        return used

    def kill(self) -> None:
        """End the core and its workers at once. vLLM notices, and every job raises EngineDied."""
        for process in self._processes():
            with suppress(psutil.Error):
                process.kill()

    def _processes(self) -> list[psutil.Process]:
        found = []
        for core in self._llm.engine_core.resources.engine_manager.processes:
            with suppress(psutil.Error):
                process = psutil.Process(core.pid)
                found += [process, *process.children(recursive=True)]
        return found

    async def shutdown(self) -> None:
        """End the engine and its processes, also one that is still starting."""
        self._ended = True
        if self._constraints:
            self._constraints.close()
        llm, self._llm = self._llm, None
        if llm is not None:
            await asyncio.to_thread(llm.shutdown, timeout=SHUTDOWN_TIMEOUT)
        for process in set(active_children()) - self._not_ours:
            process.terminate()

    def _build(self) -> Any:
        name = self._profile.model
        os.environ.setdefault("LLGUIDANCE_LOG_LEVEL", "0")  # Ours too. Or clients' grammars fill the log.
        with environment.applied(environment.of_engine(self._profile)):
            self._report("importing vLLM")
            import torch

            # Here it prepares pictures, small and many; the cores are the engine's.
            torch.set_num_threads(1)
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.async_llm import AsyncLLM

            from gateway.engine import vllm_profile

            vllm_profile.check(self._profile)
        profile = self._profile = with_weights(self._profile, self._report)
        with environment.applied(environment.of_engine(profile)):
            self._report(f"loading {name} on vLLM")
            own = {"worker_extension_cls": EXTENSION}
            if current_platform.is_cpu():
                own["worker_cls"] = CPU_WORKER
            arguments = AsyncEngineArgs(**own | engine_arguments(profile, self._max_images))
            # One for every request: vLLM would keep whichever the first one got.
            arguments.structured_outputs_config.backend = "guidance"
            if self._ended:
                raise EngineNotReady("the gateway is shutting down")
            from gateway.engine import vllm_core

            with vllm_core.started_here():
                return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.OPENAI_API_SERVER)

    async def _ask_info(self) -> EngineInfo:
        """Ask vLLM's worker what it chose."""
        from vllm.version import __version__ as version

        backends = ["unknown"]  # where the profile gives the worker another extension
        if "worker_extension_cls" not in self._profile.engine:
            (backends, *_) = await self._llm.collective_rpc("gateway_attention_backends")
        config = self._llm.vllm_config
        cache = config.cache_config
        return EngineInfo(
            version=version,
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            quantization=config.model_config.quantization or "none",
            attention_backend=",".join(backends),
            kv_cache_tokens=(cache.num_gpu_blocks or 0) * cache.block_size,
        )

    def _deltas(self, output: Any, prompt: list[int], sampling: Sampling) -> list[Delta]:
        assert self._vocabulary is not None  # `start` has returned
        deltas = []
        prompt_logprobs = self._vocabulary.prompt_logprobs(
            prompt, output.prompt_logprobs, sampling.prompt_logprobs
        )
        for choice in output.outputs:
            if choice.finish_reason and choice.finish_reason not in FINISH_REASONS:
                raise GenerationFailed(f"the engine ended the answer early ({choice.finish_reason})")
            deltas.append(
                Delta(
                    index=choice.index,
                    text=choice.text,
                    tokens=len(choice.token_ids),
                    prompt_tokens=len(prompt),
                    cached_tokens=output.num_cached_tokens or 0,
                    finish_reason=FINISH_REASONS.get(choice.finish_reason or ""),
                    logprobs=self._vocabulary.logprobs(choice.token_ids, choice.logprobs, sampling.logprobs),
                    prompt_logprobs=prompt_logprobs,
                    times=_times(output.metrics) if output.finished else None,
                    made=output.metrics.last_token_ts if output.metrics else 0.0,
                )
            )
        return deltas


def _times(stats: Any) -> Times | None:
    """Return what vLLM's `RequestStateStats` says of a request that has ended."""
    if stats is None or not stats.scheduled_ts:
        return None
    return Times(
        stats.scheduled_ts - stats.queued_ts,
        stats.first_token_ts - stats.scheduled_ts,
        stats.last_token_ts - stats.first_token_ts,
    )


def _lost_picture(output: Any) -> bool:
    """Say whether vLLM's core lacked a picture that its front-end took for cached; rendering again sends it.

    It happens to the request after one that was refused or left between rendering and running.
    """
    return any(choice.finish_reason == "error" and not choice.token_ids for choice in output.outputs)


def engine_arguments(profile: EngineProfile, max_images: int) -> dict[str, Any]:
    """Return vLLM's engine arguments for `profile`, by the names of its `EngineArgs`."""
    own = {
        "model": profile.model_path,
        "limit_mm_per_prompt": {"image": max_images},
        "scheduling_policy": "priority",  # batches come after everybody else
    }
    if profile.revision and not profile.is_local:
        own |= {"revision": profile.revision, "tokenizer_revision": profile.revision}
    return own | dict(profile.engine)


def with_weights(profile: EngineProfile, report: Report) -> EngineProfile:
    """Return `profile` with its model in a folder, fetched where it is not here. Raises HubError.

    A copy that is here is used as it is, without asking the hub whether there is a newer one.
    """
    if profile.is_local:
        if lacking := hub.missing(Path(profile.model_path)):
            raise hub.HubError(f"profile {profile.name!r}: {profile.model_path} lacks {', '.join(lacking)}")
        return profile
    folder = hub.find(profile.model, profile.revision)
    if folder is None:
        stage = f"fetching {profile.model}"
        report(stage)
        folder = hub.fetch(profile.model, profile.revision, lambda progress: report(stage, str(progress)))
    return replace(profile, model=str(folder))


def describe(profile: EngineProfile, settings: Any, vocabulary: TokenizerFile) -> Model:
    """Return what the gateway has to know of the model; `settings` is vLLM's `ModelConfig`."""
    config = settings.hf_config
    side = config.vision_config.image_size
    return Model(
        name=profile.served_name,
        context_length=settings.max_model_len,
        image_side=side,
        tokens_per_image=(side // config.vision_config.patch_size) ** 2,
        image_token=config.image_token_index,
        bos_token=config.text_config.bos_token_id,
        eos_token=config.text_config.eos_token_id,
        vocabulary_size=config.text_config.vocab_size,
        vocabulary=vocabulary,
        fingerprint=fingerprint(profile, Path(profile.model_path)),
    )


def _sampling_params(job: Job) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = job.sampling
    greedy_copies = sampling.temperature == 0 and sampling.n > 1
    return SamplingParams(
        n=sampling.n,
        # vLLM refuses n > 1 at temperature 0; drawing from the likeliest token alone is the same thing.
        temperature=1.0 if greedy_copies else sampling.temperature,
        top_k=1 if greedy_copies else sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        ignore_eos=sampling.ignore_eos,
        seed=sampling.seed,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        logit_bias=dict(sampling.logit_bias) or None,
        logprobs=sampling.logprobs,
        prompt_logprobs=sampling.prompt_logprobs,
        structured_outputs=(
            StructuredOutputsParams(grammar=sampling.constraint.grammar) if sampling.constraint else None
        ),
        # An answer that is held to a form is followed while it comes; and log probabilities are worked off as
        # they come, for those of a long answer at once would stall the event loop.
        output_kind=(
            RequestOutputKind.DELTA
            if job.stream or sampling.constraint or sampling.logprobs is not None
            else RequestOutputKind.FINAL_ONLY
        ),
        skip_clone=True,  # It is this request's alone.
    )


def _translated(error: Exception) -> GatewayError:
    from vllm.exceptions import GracefulHTTPError, VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError

    if isinstance(error, EngineDeadError):
        return EngineDied(
            "the engine died while it ran this request; another is being started", retry_after=30
        )
    if isinstance(error, GracefulHTTPError):
        return Overloaded("the engine's queue is full")
    if isinstance(error, VLLMClientError | ValueError):
        return InvalidValue(f"the engine refused the request: {error}")
    return GenerationFailed("the engine failed while it answered this request")
