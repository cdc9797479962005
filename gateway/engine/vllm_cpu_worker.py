"""vLLM's CPU worker, fixed so that a seeded request survives a prompt that is computed in several steps.

In every step vLLM draws a token for each request, and discards it where the prompt is not complete yet. To
undo such a draw it sets back the offset of the request's generator. torch's CPU generator has no offset: the
RuntimeError ends the engine. Here a token that will be discarded is drawn without the request's generator. So
nothing has to be undone, and a seed gives the same answer however its prompt was split.

This runs in the engine's process. Written against vLLM 0.32: `GPUModelRunner._sample`, `._bookkeeping_sync`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from vllm.v1.worker import cpu_worker
from vllm.v1.worker.cpu_model_runner import CPUModelRunner


class Runner(CPUModelRunner):  # type: ignore[misc]  # vLLM is not there for mypy
    """Draws tokens that will be discarded without the request's generator."""

    def _sample(self, *args: Any, **kwargs: Any) -> Any:
        with self._without_generators_of_incomplete_prompts():
            return super()._sample(*args, **kwargs)

    def _bookkeeping_sync(self, *args: Any, **kwargs: Any) -> Any:
        with self._without_generators_of_incomplete_prompts():
            return super()._bookkeeping_sync(*args, **kwargs)

    @contextmanager
    def _without_generators_of_incomplete_prompts(self) -> Iterator[None]:
        generators = self.input_batch.generators
        if not generators:
            yield
            return
        discarded = np.nonzero(self.discard_request_mask.np[: self.input_batch.num_reqs])[0].tolist()
        kept = {row: generators.pop(row) for row in discarded if row in generators}
        try:
            yield
        finally:
            generators.update(kept)


class CPUWorker(cpu_worker.CPUWorker):  # type: ignore[misc]  # vLLM is not there for mypy
    """vLLM's own, with that runner."""

    def init_device(self) -> None:
        super().init_device()
        # vLLM's second model runner draws by position, without generators.
        if type(self.model_runner) is CPUModelRunner:
            self.model_runner.__class__ = Runner
