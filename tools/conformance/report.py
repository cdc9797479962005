"""docs/reports/conformance.md: what other people's checks found, and why."""

import re
from collections.abc import Sequence
from typing import Final

from tools.conformance.suites import Outcome

# Why a check fails: by suite, name of the check (a pattern), reason.
REASONS: Final[Sequence[tuple[str, str, str]]] = (
    (
        "llm-comply .*",
        ".*reasoning-summary",
        "The suite skips it: it is for OpenAI's reasoning models.",
    ),
    (
        "llm-comply open-responses",
        "compact-response",
        "It is not offered. The suite expects 404; here it is 400: LiteLLM's proxy drops a server for a 404.",
    ),
    (
        "llm-comply .*",
        ".*error-handling",
        "It sends no model. OpenAI refuses that; here there is one, and it answers.",
    ),
    (
        "llm-comply .*|compatcanary",
        ".*tool.call.*",
        "The demo model was not made for tools: in a string argument it may go on until the context is full.",
    ),
    (
        "vLLM's test_vision",
        "beam search, .*",
        "There is no beam search; `use_beam_search` is refused by name.",
    ),
    (
        "vLLM's test_vision",
        "`image_url` is a string, .*",
        "vLLM refuses it; here it is taken, because clients send it.",
    ),
    (
        "vLLM's test_vision",
        "a known `uuid` in the picture's place, .*",
        "Pictures are known by their bytes alone: by a name of its own choice, a caller could see another's.",
    ),
)


def reason(outcome: Outcome) -> str | None:
    """Return why `outcome` is not a pass, None where that is not known."""
    for suite, name, why in REASONS:
        if re.fullmatch(suite, outcome.suite) and re.fullmatch(name, outcome.name):
            return why
    return None


def unexplained(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the failures without a reason."""
    return [outcome for outcome in outcomes if outcome.problem and reason(outcome) is None]


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the page."""
    lines = [
        "# Conformance",
        "",
        "What other people's checks of OpenAI's API find, on the real engine with the demo model. This page",
        "is written by `make conformance`, which fails where a check fails that has no reason here.",
        "",
        "| suite | passed | of |",
        "| --- | --- | --- |",
    ]
    for suite in dict.fromkeys(outcome.suite for outcome in outcomes):
        those = [outcome for outcome in outcomes if outcome.suite == suite]
        lines.append(f"| {suite} | {sum(not each.problem for each in those)} | {len(those)} |")
    failed = [outcome for outcome in outcomes if outcome.problem]
    if failed:
        lines += ["", "## What fails, and why", "", "| suite | check | reason |", "| --- | --- | --- |"]
        lines += [f"| {each.suite} | {each.name} | {reason(each) or '**none yet**'} |" for each in failed]
    return "\n".join(lines) + "\n"
