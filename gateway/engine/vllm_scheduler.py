"""vLLM's scheduler, with the steps that `pacing` says. It runs in the engine's process, on a CPU.

Written against vLLM 0.32: `Scheduler.schedule`, which reads the attributes that are set here.
"""

from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

from gateway.engine import pacing


class PacedScheduler(Scheduler):  # type: ignore[misc]  # vLLM is not there for mypy
    """Makes small steps while several callers wait for tokens."""

    running: list[Any]
    max_num_scheduled_tokens: int
    max_num_active_reqs: int
    _futile = False  # whether postponing a prompt has let none begin: there may be no memory for it

    def schedule(self, *arguments: Any, **named: Any) -> Any:
        tokens, places = self.max_num_scheduled_tokens, self.max_num_active_reqs
        step = pacing.step(self.running, list(self.waiting), tokens, postpone=not self._futile)
        self.running[:] = step.running
        self.max_num_scheduled_tokens = step.tokens
        self.max_num_active_reqs = places - len(step.postponed)
        try:
            output = super().schedule(*arguments, **named)
        finally:
            self.max_num_scheduled_tokens, self.max_num_active_reqs = tokens, places
            self.running += step.postponed
        begun = output.scheduled_new_reqs or output.scheduled_cached_reqs.resumed_req_ids
        self._futile = bool(step.postponed) and not begun
        return output
