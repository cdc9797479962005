"""From what came back to figures. Times are in seconds but where a name says otherwise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

import orjson

from tools.bench.connection import Exchange
from tools.bench.workloads import Ask

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read. `content_at` has the arrival of each event that brought text."""

    sent: float
    ended: float
    text: str
    prompt_tokens: int
    completion_tokens: int
    content_at: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """A workload, run once on one server."""

    figures: Figures
    seconds: float
    requests: int
    failures: tuple[str, ...]  # what was answered in place of an answer
    right: float | None  # share of the answers that begin with the right one
    completion_tokens: tuple[int, int]  # of an answer, least and most
    prompt_tokens: int  # of all
    client_share: float  # of one core, the client's own CPU time
    notes: tuple[str, ...] = field(default=())


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: the least sample that `percent` of all do not exceed."""
    if not samples:
        return math.nan
    return sorted(samples)[max(0, math.ceil(percent / 100 * len(samples)) - 1)]


@dataclass(frozen=True, slots=True)
class Timeline:
    """When one answer was asked for, when its text arrived, and how many tokens it has, if it is complete."""

    sent: float
    ended: float
    content_at: tuple[float, ...]
    tokens: int | None


def read(exchange: Exchange) -> Answer:
    """Return the answer in `exchange`. Raises ValueError with the body if there is none."""
    if exchange.status != 200:
        raise ValueError(f"{exchange.status}: {exchange.body[:300].decode(errors='replace')}")
    content_at: tuple[float, ...] = ()
    if exchange.body.startswith(b"data:"):
        text, usage, content_at = _read_events(exchange)
        if usage is None:
            raise ValueError("the stream ended without its usage")
    else:
        whole = orjson.loads(exchange.body)
        text, usage = whole["choices"][0]["message"]["content"] or "", whole["usage"]
    return Answer(
        exchange.sent, exchange.ended, text, usage["prompt_tokens"], usage["completion_tokens"], content_at
    )


def timeline(exchange: Exchange, now: float) -> Timeline:
    """Return the timeline of `exchange`, whose stream may have been dropped at the time `now`.

    Raises ValueError with the body if it is not an answer.
    """
    if exchange.status not in {0, 200}:  # 0: dropped
        raise ValueError(f"{exchange.status}: {exchange.body[:300].decode(errors='replace')}")
    _, usage, content_at = _read_events(exchange)
    tokens = usage["completion_tokens"] if usage else None
    return Timeline(exchange.sent, exchange.ended or now, content_at, tokens)


def _read_events(exchange: Exchange) -> tuple[str, dict[str, int] | None, tuple[float, ...]]:
    texts: list[str] = []
    times: list[float] = []
    usage: dict[str, int] | None = None
    rest = b""
    for at, piece in exchange.pieces:
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            data = event.removeprefix(b"data:").strip()
            if data in {b"", b"[DONE]"}:
                continue
            chunk = orjson.loads(data)
            if "choices" not in chunk:
                raise ValueError(data[:300].decode(errors="replace"))
            usage = chunk.get("usage") or usage
            content = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
            if content:
                texts.append(content)
                times.append(at)
    return "".join(texts), usage, tuple(times)


def of_window(timelines: Sequence[Timeline], begin: float, end: float) -> Figures:
    """Return the figures of the time from `begin` to `end`, in the middle of a steady load.

    Tokens count when they arrive, so answers that began before or end after are counted in part. A first
    token belongs to the window in which its request was sent. If it never came, its wait so far counts.
    """
    first, gaps, tokens = [], [], 0.0
    for answer in timelines:
        inside = sum(begin <= at < end for at in answer.content_at)
        # An event can bring several tokens.
        tokens += inside * answer.tokens / len(answer.content_at) if inside and answer.tokens else inside
        if begin <= answer.sent < end:
            first.append(1000 * ((answer.content_at or (answer.ended,))[0] - answer.sent))
        gaps += [1000 * (late - early) for early, late in pairwise(answer.content_at) if begin <= late < end]
    return {
        "tokens_per_s": tokens / (end - begin),
        "ttft_ms_p50": percentile(first, 50),
        "ttft_ms_p99": percentile(first, 99),
        "gap_ms_p99": percentile(gaps, 99),
    }


def of_answers(answers: Sequence[Answer], seconds: float) -> Figures:
    """Return the figures of `answers`, which took `seconds` altogether."""
    first = [1000 * (answer.content_at[0] - answer.sent) for answer in answers if answer.content_at]
    gaps = [1000 * (after - before) for answer in answers for before, after in pairwise(answer.content_at)]
    took = [1000 * (answer.ended - answer.sent) for answer in answers]
    figures = {
        "requests_per_s": len(answers) / seconds,
        "tokens_per_s": sum(answer.completion_tokens for answer in answers) / seconds,
        "latency_ms_p50": percentile(took, 50),
        "latency_ms_p99": percentile(took, 99),
    }
    if first:
        figures |= {"ttft_ms_p50": percentile(first, 50), "ttft_ms_p99": percentile(first, 99)}
    if gaps:
        figures |= {"gap_ms_p50": percentile(gaps, 50), "gap_ms_p99": percentile(gaps, 99)}
        figures["events_per_answer"] = (len(gaps) + len(first)) / len(first)
    return figures


def of_conversations(conversations: Sequence[Sequence[Exchange]]) -> Figures:
    """Return the time that a whole conversation took, from its first request to its last answer."""
    times = [conversation[-1].ended - conversation[0].sent for conversation in conversations if conversation]
    return {"conversation_s": median(times)}


def share_right(asks: Sequence[Ask], answers: Sequence[Answer | None]) -> float | None:
    """Return the share of the answers that begin as they must, None where nothing has a right answer."""
    judged = [(ask.answer, answer) for ask, answer in zip(asks, answers, strict=True) if ask.answer]
    if not judged:
        return None
    right = [answer is not None and answer.text.strip().startswith(wanted) for wanted, answer in judged]
    return sum(right) / len(right)
