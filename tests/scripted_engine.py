"""A stand-in at the Engine seam, for tests of what is not the engine."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from math import nan

from gateway.engine.interface import (
    Constraint,
    Delta,
    EngineInfo,
    FinishReason,
    Job,
    Model,
    Times,
    TokenLogprob,
)
from gateway.errors import EngineDied, InvalidValue


class Bytes:
    """A vocabulary whose tokens are the bytes of the text, from id 3 on; ids beyond them are no text."""

    def encode(self, text: str) -> list[int]:
        return [byte + 3 for byte in text.encode()]

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        names = {1: b"<s>", 2: b"</s>"} if special else {}
        return b"".join(bytes([id_ - 3]) if 2 < id_ <= 258 else names.get(id_, b"") for id_ in ids).decode(
            errors="replace"
        )

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.decode([id_], special=True) for id_ in ids]


MODEL = Model(
    name="llava-demo",  # as the profile has it
    context_length=2048,
    image_side=336,
    tokens_per_image=64,
    image_token=1000,
    bos_token=1,
    eos_token=2,
    vocabulary_size=1001,
    vocabulary=Bytes(),
    fingerprint="fp_scripted",
)

INFO = EngineInfo("0.32.0", "bfloat16", "none", "CPU_ATTN", 4096)


@dataclass
class ScriptedEngine:
    """Says `words`, `pause` seconds before each; raises `error` in place of word number `fails_at`.

    When it has `failed`, every job raises EngineDied before its next word. A `stuck` one answers no probe.
    """

    words: tuple[str, ...] = (" A", " red", " circle.")
    pause: float = 0.0
    error: Exception | None = None
    fails_at: int = 0
    start_error: Exception | None = None
    model: Model = MODEL
    info: EngineInfo = INFO
    failed: bool = False
    jobs: list[Job] = field(default_factory=list)
    checked: list[Constraint] = field(default_factory=list)
    unfit: str = "unfit"  # constraints with this in them are refused
    running: int = 0
    shutdowns: int = 0
    stuck: bool = False
    hurried: bool = False  # no pause any more: those that jobs are in end, too
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)  # whether `start` may return

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error
        await self.started.wait()

    async def check_constraint(self, constraint: Constraint) -> None:
        self.checked.append(constraint)
        if self.unfit in constraint.grammar:
            raise InvalidValue(f"{constraint.param}: it is unfit", param=constraint.param)

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        self.jobs.append(job)
        self.running += 1
        try:
            words = self.words[: job.sampling.max_tokens]
            finish: FinishReason = "stop" if words == self.words else "length"
            for place, word in enumerate(words):
                await self._pause()
                if self.error and place == self.fails_at:
                    raise self.error
                end = finish if place == len(words) - 1 else None
                for choice in range(job.sampling.n):
                    yield self._delta(job, choice, word, end, first=place == choice == 0)
        finally:
            self.running -= 1

    async def _pause(self) -> None:
        until = asyncio.get_running_loop().time() + self.pause
        while not self.failed and not self.hurried:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.sleep(min(left, 0.01))
        if self.failed:
            raise EngineDied("the engine died")
        await asyncio.sleep(0)

    async def beat(self) -> None:
        if self.stuck:
            await asyncio.Event().wait()

    def effort(self) -> float:
        return self.cpu_seconds

    def memory(self) -> int:
        return self.memory_bytes

    def kill(self) -> None:
        self.failed = True

    async def shutdown(self) -> None:
        self.shutdowns += 1
        self.failed = True

    def _delta(
        self, job: Job, choice: int, word: str, end: FinishReason | None, *, first: bool = False
    ) -> Delta:
        return Delta(
            index=choice,
            text=word,
            tokens=1,
            prompt_tokens=len(job.token_ids) + (self.model.tokens_per_image - 1) * len(job.pictures),
            finish_reason=end,
            logprobs=_logprobs(word, job.sampling.logprobs),
            prompt_logprobs=_prompt_logprobs(job) if first else (),
            times=Times(1.0, 2.0, 3.0) if end and choice == job.sampling.n - 1 else None,
        )


def _prompt_logprobs(job: Job) -> tuple[TokenLogprob, ...]:
    """Return the prompt's tokens, each at -0.25 but the first."""
    if job.sampling.prompt_logprobs is None:
        return ()
    pieces = Bytes().pieces(job.token_ids)
    return tuple(
        TokenLogprob(piece, piece.encode(), -0.25 if place else nan) for place, piece in enumerate(pieces)
    )


def _logprobs(word: str, top: int | None) -> tuple[TokenLogprob, ...]:
    """Return the one token that `word` is, at -0.5, and the `top` likeliest in its place, -1 apart."""
    if top is None:
        return ()
    others = tuple(
        TokenLogprob(f"{word}{rank}", f"{word}{rank}".encode(), -0.5 - rank) for rank in range(top)
    )
    return (TokenLogprob(word, word.encode(), -0.5, others),)
