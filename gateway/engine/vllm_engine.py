"""The engine: vLLM's front end in this process, its core in another. Only `gateway.engine.vllm_*` import it.

Written against vLLM 0.32: `AsyncLLM`, its `generate`, and what `vllm_inputs` lists. vLLM is imported when the
engine starts, which takes seconds; the gateway listens before.
"""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import psutil

from engine_config.profile import EngineProfile
from engine_config.progress import Progress
from gateway.engine import environment, fork_server, imports, loading
from gateway.engine.interface import Constraint, Delta, EngineInfo, Job, Model
from gateway.engine.runtime_directory import RuntimeDirectory
from gateway.engine.supervisor import Report
from gateway.engine.vllm_model import describe, engine_arguments, with_weights
from gateway.engine.vocabulary import TokenizerFile
from gateway.errors import (
    EngineNotReady,
    GatewayError,
    GenerationFailed,
)
from gateway.telemetry import tracing

SHUTDOWN_TIMEOUT = 10.0  # seconds for vLLM's processes to leave by themselves
ATTEMPTS = 2  # tries of a job if vLLM's two image caches disagree
CPU_WORKER = "gateway.engine.vllm_cpu_worker.CPUWorker"  # imported by name in the engine's process
EXTENSION = "gateway.engine.vllm_worker.WorkerExtension"


def _ignore(stage: str, progress: Progress | None = None) -> None:
    """Ignore a report."""


class VLLMEngine:
    """LLaVA on vLLM, configured by a profile. `report` is called with each stage of the start."""

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
        self._runtime: RuntimeDirectory | None = None
        self._ended = False
        self._other_children = set(active_children())

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
        """Fetch the model if it is missing, and load it, in a thread because both block."""
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

        # A daemon, so that shutdown does not wait for vLLM to start.
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
        # vLLM caches the answer; later requests are sent without asking the core first.
        await self._llm.get_supported_tasks()
        self._info = await self._ask_info()
        self._model = model
        # vLLM's modules stay in memory: later garbage collections skip them.
        gc.collect()
        gc.freeze()

    async def check_constraint(self, constraint: Constraint) -> None:
        """Raise InvalidValue if `constraint` cannot be enforced. See `Engine.check_constraint`."""
        await self._constraints.check(constraint)

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        """Yield the deltas of `job`. Closing the generator aborts it. See `Engine.generate`."""
        from gateway.engine.vllm_outputs import deltas, lost_picture, translated
        from gateway.engine.vllm_sampling import sampling_params

        assert self._vocabulary is not None  # `start` has returned
        constraint, attempt, begun = job.sampling.constraint, 0, False
        try:
            for attempt in range(ATTEMPTS):
                followed = await self._constraints.follow(constraint) if constraint else None
                tensors = await self._inputs.tensors(job)
                prompt = self._inputs.build(job, tensors)
                ids = prompt["prompt_token_ids"]
                outputs = self._llm.generate(
                    prompt,
                    sampling_params(job),
                    f"{job.id}-{attempt}",
                    priority=job.priority,
                    trace_headers=job.trace_headers,
                )
                async with aclosing(outputs):
                    async for output in outputs:
                        if lost_picture(output):
                            break
                        begun = True
                        if followed:
                            followed.take(output)
                        for delta in deltas(output, ids, job.sampling, self._vocabulary):
                            yield delta
                    else:
                        return
                if begun:  # with another choice: no output may be repeated
                    break
        except GatewayError:
            raise
        except Exception as error:
            error.add_note(f"vLLM's request: {job.id}-{attempt}")
            dead = self._ended or self.failed
            raise translated(error, begun=begun, dead=dead) from error
        raise GenerationFailed("the engine could not find the request's images in its cache")

    async def beat(self) -> None:
        """Return when the core has answered, which it does between steps."""
        await self._llm.is_sleeping()

    def effort(self) -> float:
        """Return the CPU seconds of the core and its workers."""
        used = 0.0
        for process in self._processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                used += times.user + times.system
        return used

    def memory(self) -> int:
        """Return the resident bytes of the core and its workers; what they share counts in each."""
        used = 0
        for process in self._processes():
            with suppress(psutil.Error):
                used += process.memory_info().rss
        return used

    def kill(self) -> None:
        """Kill the core and its workers. vLLM notices, and every job raises EngineDied."""
        for process in self._processes():
            with suppress(psutil.Error):
                process.kill()

    def _processes(self) -> list[psutil.Process]:
        return _with_children(self._llm.engine_core.resources.engine_manager.processes)

    async def shutdown(self) -> None:
        """End the engine and its processes, even while it is starting."""
        self._ended = True
        if self._constraints:
            self._constraints.close()
        llm, self._llm = self._llm, None
        if llm is not None:
            await asyncio.to_thread(self._end, llm)
        for process in set(active_children()) - self._other_children:
            process.terminate()
        if self._runtime is not None:
            await asyncio.to_thread(self._runtime.remove)

    def _end(self, llm: Any) -> None:
        cores = llm.engine_core.resources.engine_manager.processes
        if len(_with_children(cores)) == len(cores):
            # A core without workers holds nothing that must be released. vLLM would collect garbage and
            # finalize the interpreter, which takes seconds on a busy machine.
            for core in cores:
                core.terminate = core.kill
        llm.shutdown(timeout=SHUTDOWN_TIMEOUT)

    def _build(self) -> Any:
        os.environ.setdefault(
            "LLGUIDANCE_LOG_LEVEL", "0"
        )  # In both processes; else clients' grammars fill the log.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "0")  # More threads do not help with one text.
        with environment.applied(environment.of_engine(self._profile)), imports.without_audio():
            self._report("importing vLLM")
            import torch

            # This process only prepares images; the cores are for the engine.
            torch.set_num_threads(1)
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.async_llm import AsyncLLM

            from gateway.engine import vllm_outputs, vllm_profile

            vllm_outputs.without_words()
            vllm_profile.check(self._profile)
        profile = self._profile = with_weights(self._profile, self._report)
        traced = tracing.engine_variables(os.environ)
        self._runtime = RuntimeDirectory()
        variables = environment.of_engine(profile) | traced
        variables["VLLM_RPC_BASE_PATH"] = str(self._runtime.path)
        if current_platform.is_cpu():
            variables |= environment.of_cpu_engine(profile)
        with environment.applied(variables):
            self._report("starting vLLM's processes")
            own = {"worker_extension_cls": EXTENSION}
            if traced:
                own["otlp_traces_endpoint"] = traced["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
            if current_platform.is_cpu():
                own["worker_cls"] = CPU_WORKER
            arguments = AsyncEngineArgs(**own | engine_arguments(profile, self._max_images))
            # The same for all requests: vLLM would keep the choice for the first one.
            arguments.structured_outputs_config.backend = "guidance"
            if self._ended:
                raise EngineNotReady("the gateway is shutting down")
            from gateway.engine import vllm_core

            with (
                vllm_core.started_here(fork_server.started()),
                loading.watched(self._report_loading, self._runtime.path) as counting,
                environment.applied(counting),
            ):
                return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.OPENAI_API_SERVER)

    def _report_loading(self, progress: Progress) -> None:
        if progress.done < progress.total:
            self._report("loading the weights", progress)
        else:
            # vLLM measures its memory; on a GPU it also compiles kernels and captures graphs.
            self._report("warming up")

    async def _ask_info(self) -> EngineInfo:
        """Return vLLM's choices, partly from its worker."""
        from vllm.version import __version__ as version

        backends = ["unknown"]  # if the profile sets another extension
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


def _with_children(cores: Iterable[Any]) -> list[psutil.Process]:
    """Return the running processes of multiprocessing's `cores` and their children."""
    found = []
    for core in cores:
        with suppress(psutil.Error):
            process = psutil.Process(core.pid)
            found += [process, *process.children(recursive=True)]
    return found
