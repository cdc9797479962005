"""vLLM's scheduler with the step plans of `pacing`. It runs in the engine's process, on a CPU.

Written against vLLM 0.32: `Scheduler.schedule`, which reads the attributes set here.
"""

from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler

from gateway.engine import pacing


class PacedScheduler(Scheduler):  # type: ignore[misc]  # vLLM is not there for mypy
    """Keeps steps small while several callers wait for tokens."""

    running: list[Any]
    max_num_scheduled_tokens: int
    max_num_active_reqs: int
    _futile = False  # whether postponing a prompt let no other start, perhaps for lack of memory

    def schedule(self, *arguments: Any, **named: Any) -> Any:
        tokens, requests = self.max_num_scheduled_tokens, self.max_num_active_reqs
        step = pacing.step(self.running, list(self.waiting), tokens, postpone=not self._futile)
        self.running[:] = step.running
        self.max_num_scheduled_tokens = step.tokens
        self.max_num_active_reqs = requests - len(step.postponed)
        try:
            output = super().schedule(*arguments, **named)
        finally:
            self.max_num_scheduled_tokens, self.max_num_active_reqs = tokens, requests
            self.running += step.postponed
        begun = output.scheduled_new_reqs or output.scheduled_cached_reqs.resumed_req_ids
        self._futile = bool(step.postponed) and not begun
        return output
