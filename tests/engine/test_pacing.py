"""The plan of a step on a CPU, with one caller and with several."""

from dataclasses import dataclass

from gateway.engine.pacing import ALONE, SHARED, step

MOST = 2048


@dataclass
class Request:
    """A running answer, or a prompt with `num_computed_tokens` computed."""

    cache_salt: str | None
    num_computed_tokens: int = 10
    num_prompt_tokens: int = 10
    priority: int = 0
    arrival_time: float = 0.0


def prompt(caller: str | None, priority: int = 0) -> Request:
    return Request(caller, 5, 10, priority)


def test_without_callers_a_step_is_as_large_as_vllm_makes_it() -> None:
    """The engine cannot tell callers apart if they share the cache."""
    answer, text = Request(None), prompt(None, 3)
    assert step([text, answer], [prompt(None)], MOST) == ([answer, text], [], MOST)


def test_one_callers_prompts_leave_room_for_anothers_first_token() -> None:
    running = [prompt("eve", 3), Request("eve"), Request("eve")]
    made = step(running, [prompt("eve", 1)], MOST)
    assert made == ([running[1], running[2], running[0]], [], ALONE + 2)


def test_while_others_wait_for_tokens_a_step_has_few_of_prompts() -> None:
    assert step([prompt("eve"), Request("ann")], [], MOST).tokens == SHARED + 1
    assert step([prompt("eve")], [prompt("ann", 9)], MOST).tokens == SHARED
    assert step([prompt("eve")], [prompt("ann")], 8).tokens == 8


def test_a_prompt_under_way_lets_those_of_callers_with_less_under_way_pass() -> None:
    first, second = prompt("eve", 9), prompt("eve", 4)
    assert step([first, second], [prompt("ann", 5)], MOST) == ([second], [first], SHARED)
    assert step([first, second], [prompt("ann", 5)], MOST, postpone=False)[:2] == ([second, first], [])
    assert step([first, second], [prompt("eve", 1)], MOST)[:2] == ([second, first], [])
