"""vLLM's CPU worker, with two faults fixed that end the engine.

A seeded request must survive a prompt that is computed in several steps. In every step vLLM draws a token
for each request, and discards it if the prompt is not complete yet. To undo such a draw it sets back the
offset of the request's generator. torch's CPU generator has no offset: the RuntimeError ends the engine.
Here a token that will be discarded is drawn without the request's generator. So nothing has to be undone, and
a seed gives the same answer however its prompt was split.

A first request must not meet AMX instructions that Linux has not yet allowed the process: it would end with
SIGILL. vLLM's attention uses them wherever the CPU has them, but only some matrix products of PyTorch, of
longer prompts, ask for the permission.

This runs in the engine's process. Written against vLLM 0.32: `GPUModelRunner._sample`, `._bookkeeping_sync`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
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
    """vLLM's own, with that runner and the permission for AMX."""

    def init_device(self) -> None:
        allow_amx()
        super().init_device()
        # vLLM's second model runner draws by position, without generators.
        if type(self.model_runner) is CPUModelRunner:
            self.model_runner.__class__ = Runner


def allow_amx() -> None:
    """Have Linux allow this process AMX, if the CPU has it; else have vLLM do without."""
    amx: Any = torch.cpu
    if amx._is_amx_tile_supported() and not amx._init_amx():  # noqa: SLF001  # there is no public name
        amx._is_amx_tile_supported = lambda: False  # noqa: SLF001
