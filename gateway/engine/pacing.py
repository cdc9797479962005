"""Limits the prompt tokens per step on a CPU, so that one caller's prompts do not delay another's answers.

Each step gives every answer one token, and a step of a thousand tokens takes a CPU a second. vLLM fills each
step with waiting prompts, and finishes a prompt before it starts the next one. This module does not import
vLLM; a request here is one of vLLM's.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

ALONE = 512  # prompt tokens per step with one caller; the first token of a second caller waits for it
SHARED = 64  # prompt tokens per step with several callers


class Request(Protocol):
    """The fields of vLLM's request that are used here."""

    num_computed_tokens: int
    num_prompt_tokens: int
    priority: int
    arrival_time: float
    cache_salt: str | None  # the caller's scope; None if callers share the cache


class StepPlan(NamedTuple):
    """What the next step may compute."""

    running: list[Request]  # in the order of scheduling
    postponed: list[Request]  # get no tokens in this step
    tokens: int  # at most


def step(
    running: Sequence[Request], waiting: Sequence[Request], most: int, *, postpone: bool = True
) -> StepPlan:
    """Return the plan of the next step, of at most `most` tokens.

    Answers come first, then prompts by priority; callers with fewer running requests have better priorities.
    If `postpone`, a running prompt is postponed while another caller's prompt with a better priority waits.
    """
    answers = [request for request in running if not _is_prompt(request)]
    prompts = sorted(
        filter(_is_prompt, running), key=lambda request: (request.priority, request.arrival_time)
    )
    callers = {request.cache_salt for request in (*running, *waiting)}
    if callers <= {None}:
        return StepPlan(answers + prompts, [], most)
    going: list[Request] = []
    postponed: list[Request] = []
    for prompt in prompts:
        later = postpone and any(
            other.priority < prompt.priority and other.cache_salt != prompt.cache_salt for other in waiting
        )
        (postponed if later else going).append(prompt)
    limit = SHARED if len(callers) > 1 else ALONE
    return StepPlan(answers + going, postponed, min(most, len(answers) + limit))


def _is_prompt(request: Request) -> bool:
    return request.num_computed_tokens < request.num_prompt_tokens
