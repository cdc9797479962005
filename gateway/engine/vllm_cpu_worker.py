"""vLLM's CPU worker with two fixes for faults that end the engine.

Seeds: in every step vLLM samples a token for each request, and discards it if the prompt is not complete yet.
To undo that it resets the offset of the request's generator. torch's CPU generator has no offset, and the
RuntimeError ends the engine. Here a token that will be discarded is sampled without the request's generator:
a seed gives the same answer however its prompt is split into steps.

AMX: Linux kills a process (SIGILL) that uses AMX instructions without asking first. vLLM's attention uses
them if the CPU has them, but only some of PyTorch's matrix products, for longer prompts, ask for permission.
Here the worker asks when it starts.

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
    """Samples tokens that will be discarded without the request's generator."""

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
    """vLLM's worker with that runner and the permission for AMX."""

    def init_device(self) -> None:
        allow_amx()
        super().init_device()
        # vLLM's second model runner samples by position, without generators.
        if type(self.model_runner) is CPUModelRunner:
            self.model_runner.__class__ = Runner


def allow_amx() -> None:
    """Ask Linux for AMX if the CPU has it; if Linux refuses, make vLLM do without it."""
    amx: Any = torch.cpu
    if amx._is_amx_tile_supported() and not amx._init_amx():  # noqa: SLF001  # there is no public name
        amx._is_amx_tile_supported = lambda: False  # noqa: SLF001
