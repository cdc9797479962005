"""One request's life between the wire and the engine: request → job → deltas."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from engine_config.profile import EngineProfile
from gateway.access.callers import Caller
from gateway.access.fair_threads import Aside, at_once
from gateway.access.limits import Account
from gateway.answering.deadlines import Running
from gateway.answering.latency import LatencyMetrics
from gateway.engine.interface import Delta, Job, Model, Picture
from gateway.engine.supervisor import Supervisor
from gateway.errors import GatewayError, ModelNotFound
from gateway.generation import raw_prompts
from gateway.generation.merge_streams import merged
from gateway.generation.prompt_builder import PromptBuilder
from gateway.generation.request import GenerationRequest, InputImage, Prepared
from gateway.generation.sampling import MAX_TOKENS, check_logprobs, sampling_of, with_defaults
from gateway.images import source
from gateway.images.loader import PictureLoader
from gateway.prompt import tokens
from gateway.schema.paths import short
from gateway.schema.validation import has_many_values
from gateway.settings import Fit, Settings
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.request_log import RequestLog

# Tokens of an answer that count, at most; a longer one also takes its places for longer.
EXPECTED: Final = 1024

_T = TypeVar("_T")


class Pipeline:
    """Turns requests into jobs and runs them."""

    def __init__(
        self,
        engine: Supervisor,
        loader: PictureLoader,
        profile: EngineProfile,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._loader = loader
        self._names = {profile.served_name, *profile.aliases, *settings.aliases}
        self._sampling = profile.sampling
        self._fit = settings.image_fit or profile.image_fit
        self._settings = settings
        self._metrics = metrics
        self._conversations = PromptBuilder(engine, profile, settings)

    async def close(self) -> None:
        """End the threads."""
        await self._conversations.close()

    def aside(self, body: bytes, caller: Caller) -> Aside:
        """Return how to do what takes as long as the JSON in `body` has values."""
        return partial(self._conversations.aside, caller) if has_many_values(body) else at_once

    async def in_turn(self, caller: Caller, work: Callable[[], _T]) -> _T:
        """Return what `work` returns: in a thread, in turn between callers."""
        return await self._conversations.aside(caller, work)

    def check(self) -> None:
        """Raise EngineNotReady (503) while no engine runs."""
        self._engine.check()

    async def prepare(self, request: GenerationRequest, account: Account) -> Prepared:
        """Return the job that `request` asks for, and what was left out of it.

        Whatever can be known without a picture's bytes is checked before any is fetched; then the
        prompt's tokens, its images and the tokens that the answer may have are counted on `account`, which
        may refuse them. Raises RequestError.
        """
        model = self._engine.model
        name = self.check_model(request.model)
        self._metrics.ignored_fields.inc(len(request.ignored))
        if request.prompts:
            return await self._prepare_prompts(request, name, account)
        request, talk = await self._conversations.fit(request, account.caller)
        fitted = talk.fitted
        images = [image for message in fitted.messages for image in message.images]
        sources = [self._source(image) for image in images]
        prompt_tokens = tokens.length(fitted.ids, model)
        given = with_defaults(request.sampling, self._sampling)
        over = self._settings.max_tokens_over
        sampling = sampling_of(
            given, model, prompt_tokens, request.param, over, constraint=request.constraint
        )
        bounded = any(name in given for name in MAX_TOKENS)
        await account.reserve(prompt_tokens, len(images), sampling.n * sampling.max_tokens, bounded=bounded)
        fit = request.image_fit or self._fit
        pictures = await _gather(
            self._loader.load(
                found,
                param=image.param,
                side=model.image_side,
                fit=fit,
                scope=request.caller,
                caller=account.caller,
            )
            for image, found in zip(images, sources, strict=True)
        )
        job = Job(
            request.id,
            fitted.ids,
            tuple(pictures),
            sampling,
            stream=request.stream,
            cache_salt=self._cache_salt(request),
        )
        return Prepared(
            job,
            name,
            fitted.dropped_images,
            fitted.dropped_messages,
            blank=not _ends_in_a_word(request),
            tools=talk.offer.names if talk.offer else (),
            dropped_tools=talk.dropped_tools,
            fingerprint=model.fingerprint,
            ignored=request.ignored,
        )

    @property
    def image_fit(self) -> Fit:
        """Return how pictures become square where a request does not say."""
        return self._fit

    @property
    def model(self) -> Model:
        """Return the model that is served. Raises EngineNotReady."""
        return self._engine.model

    def check_model(self, name: str) -> str:
        """Return `name`, or what the model is served as where it is empty. Raises ModelNotFound."""
        if name and name not in self._names:
            served = self._engine.model.name
            raise ModelNotFound(f"model: {short(name)!r} is not served here; use {served!r}", param="model")
        return name or self._engine.model.name

    async def prompt_ids(self, request: GenerationRequest, caller: Caller) -> list[int]:
        """Return the ids of the request's (first) prompt, one token per picture. Raises RequestError."""
        self.check_model(request.model)
        self._metrics.ignored_fields.inc(len(request.ignored))
        return await self._conversations.first_ids(request, caller)

    async def prompt_length(self, request: GenerationRequest, caller: Caller) -> int:
        """Return how many tokens the request's (first) prompt has, with its pictures. Raises RequestError."""
        return tokens.length(await self.prompt_ids(request, caller), self._engine.model)

    async def _prepare_prompts(self, request: GenerationRequest, name: str, account: Account) -> Prepared:
        """Return a job for each of the request's prompts."""
        model = self._engine.model
        prompts = await self._conversations.prompts(request, account.caller)
        request = replace(request, sampling=with_defaults(request.sampling, self._sampling))
        over, salt = self._settings.max_tokens_over, self._cache_salt(request)
        made = (raw_prompts.job(request, place, ids, model, over) for place, ids in enumerate(prompts))
        jobs = [replace(job, cache_salt=salt) for job in made]
        texts = tuple(raw_prompts.text(prompt, model) for prompt in request.prompts) if request.echo else ()
        prepared = Prepared(jobs[0], name, others=tuple(jobs[1:]), texts=texts, fingerprint=model.fingerprint)
        check_logprobs(prepared.log_probabilities)
        prompt_tokens = sum(len(job.token_ids) for job in jobs)
        most = sum(job.sampling.n * job.sampling.max_tokens for job in jobs)
        await account.reserve(prompt_tokens, 0, most, bounded=True)  # 16 tokens where the client says nothing
        return prepared

    async def run(self, jobs: Sequence[Job], running: Running, log: RequestLog) -> AsyncGenerator[Delta]:
        """Yield the deltas of `jobs`, measured from when `log` began.

        The choices of several jobs are numbered through. Closing the generator aborts the jobs. Raises what
        `running` is ended with.
        """
        job, *others = jobs
        pace = LatencyMetrics(self._metrics, log.began)
        prompt_tokens = 0
        image_tokens = len(job.pictures) * self._engine.model.tokens_per_image
        deltas = self._engine.generate(job)
        if others:
            deltas = merged([deltas, *map(self._engine.generate, others)], job.sampling.n)
        try:
            async with aclosing(deltas):
                async for delta in deltas:
                    now = running.heard = time.perf_counter()
                    if job.stream:
                        pace.take(delta, now)
                    if not prompt_tokens:
                        of_others = sum(len(other.token_ids) for other in others)
                        prompt_tokens = delta.prompt_tokens + of_others
                        self._metrics.prompt_tokens.inc(prompt_tokens)
                        self._metrics.image_tokens.inc(image_tokens)
                    self._metrics.completion_tokens.inc(delta.tokens)
                    running.tokens += delta.tokens
                    if delta.times is not None:
                        queue, prefill, generate = delta.times
                        log.add("queue", queue, now - generate - prefill)
                        log.add("prefill", prefill, now - generate)
                        log.add("generate", generate, now)
                    if delta.finish_reason is not None:
                        log.finish_reasons.append(delta.finish_reason)
                        log.cached_tokens = delta.cached_tokens
                    yield delta
        except asyncio.CancelledError:
            if (reason := running.reason()) is None:
                raise
            log.broke = reason
            raise reason from None
        except GatewayError as error:
            log.broke = error
            raise
        finally:
            log.facts |= {"prompt_tokens": prompt_tokens, "completion_tokens": running.tokens}

    def expected_tokens(self, prepared: Prepared) -> int:
        """Return how many tokens a request is expected to take of the engine, as sharing counts them."""
        model = self._engine.model
        prompts = sum(tokens.length(job.token_ids, model) for job in prepared.jobs)
        return prompts + prepared.choices * min(prepared.job.sampling.max_tokens, EXPECTED)

    def _cache_salt(self, request: GenerationRequest) -> str | None:
        return request.caller if self._settings.cache_scope == "caller" else None

    def _source(self, image: InputImage) -> source.Source:
        if image.file_id is not None:
            return source.FileID(image.file_id)
        return source.parse(image.url, param=image.param, max_bytes=self._settings.image_max_bytes)


async def _gather(loads: Iterable[Coroutine[Any, Any, Picture]]) -> list[Picture]:
    """Await all `loads`; the first that fails ends the others and is raised."""
    tasks = [asyncio.create_task(load) for load in loads]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        return [task.result() for task in sorted(tasks, key=lambda task: not task.done())]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # An error's traceback holds this frame, and the tasks hold the errors: without this, all that its
        # frames hold would stay in memory until the garbage collector comes by.
        tasks.clear()


def _ends_in_a_word(request: GenerationRequest) -> bool:
    """Say whether the answer goes on with a reply that has no space at its end."""
    said = [part for part in request.messages[-1].parts if isinstance(part, str) and part]
    return request.continued and bool(said) and not said[-1].endswith(" ")
