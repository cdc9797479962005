"""How much of the prompts a step of an engine on a CPU computes, so that one caller's delay no other's.

Every answer gets one token a step, and a CPU needs a second for a step of a thousand tokens. vLLM fills each
step with the prompts that wait, and goes on with a prompt that it has begun before it begins another's.
This module does not import vLLM; a request here is vLLM's.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

ALONE = 512  # tokens of prompts in a step of one caller's requests: another's first one waits for it
SHARED = 64  # in a step that other callers wait for


class Request(Protocol):
    """What is looked at of a request of vLLM's."""

    num_computed_tokens: int
    num_prompt_tokens: int
    priority: int
    arrival_time: float
    cache_salt: str | None  # the caller's scope; None where callers share the cache


class StepPlan(NamedTuple):
    """What a step may be made of."""

    running: list[Request]  # in the order in which they get tokens
    postponed: list[Request]  # that get none
    tokens: int  # that it has at most


def step(
    running: Sequence[Request], waiting: Sequence[Request], most: int, *, postpone: bool = True
) -> StepPlan:
    """Return what the next step may be made of; without pacing it has `most` tokens.

    Answers go first, then prompts by priority, which is better the less a caller has under way. A prompt that
    is being computed is postponed, if `postpone`, while one of another caller with a better priority waits.
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
