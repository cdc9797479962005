"""A stand-in at the Engine seam, for tests of what is not the engine."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from gateway.engine.interface import Delta, FinishReason, Job, Model
from gateway.errors import GatewayError


class Bytes:
    """A vocabulary whose tokens are the bytes of the text, from id 3 on."""

    def encode(self, text: str) -> list[int]:
        return [byte + 3 for byte in text.encode()]


MODEL = Model(
    name="scripted",
    context_length=2048,
    image_side=336,
    tokens_per_image=64,
    image_token=1000,
    bos_token=1,
    eos_token=2,
    vocabulary_size=1001,
    vocabulary=Bytes(),
)


@dataclass
class ScriptedEngine:
    """Says `words`, `pause` seconds before each; raises `error` in place of word number `fails_at`."""

    words: tuple[str, ...] = (" A", " red", " circle.")
    pause: float = 0.0
    error: GatewayError | None = None
    fails_at: int = 0
    model: Model = MODEL
    failed: bool = False
    jobs: list[Job] = field(default_factory=list)
    running: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)  # whether `start` may return

    async def start(self) -> None:
        await self.started.wait()

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        self.jobs.append(job)
        self.running += 1
        try:
            last = len(self.words) - 1
            for place, word in enumerate(self.words):
                await asyncio.sleep(self.pause)
                if self.error and place == self.fails_at:
                    raise self.error
                for choice in range(job.sampling.n):
                    prompt_tokens = len(job.token_ids) + 63 * len(job.pictures)
                    end: FinishReason | None = "stop" if place == last else None
                    yield Delta(choice, word, 1, prompt_tokens, finish_reason=end)
        finally:
            self.running -= 1

    async def shutdown(self) -> None:
        self.failed = True
