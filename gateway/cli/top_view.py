"""Shows what a gateway did between two scrapes of its metrics, as a table or as numbers."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.table import Table

from engine_config.progress import Progress
from gateway.cli.scrape import Scrape, ScrapeError, quantile, rate

FIRST_TOKEN: Final = "gateway_time_to_first_token_seconds"  # noqa: S105  # a metric's name
STARTED: Final = "process_start_time_seconds"
UNITS: Final = ("B", "KB", "MB", "GB")


class Watch:
    """The last two scrapes of a gateway, through its restarts and absences."""

    def __init__(self, scrape: Callable[[], Scrape], url: str) -> None:
        self._scrape = scrape
        self._url = url
        self._scrapes: tuple[Scrape, ...] = ()
        self._lost = ""  # why the last look failed

    def look(self) -> None:
        """Scrape again. Raises ScrapeError; `view` then shows the last figures and the reason."""
        try:
            now = self._scrape()
        except ScrapeError as error:
            self._lost = str(error)
            raise
        self._scrapes = (*self._scrapes[-1:], now)
        self._lost = ""

    def _last_two(self) -> tuple[Scrape, Scrape]:
        before, now = self._scrapes
        if before.total(STARTED) < now.total(STARTED):  # Another process: its counters began at 0.
            before = Scrape(before.at, {})
        return before, now

    def figures(self) -> dict[str, Any]:
        """Return what happened between the last two scrapes, for JSON; `error` says why a look failed."""
        return {"url": self._url, "error": self._lost or None, **figures(*self._last_two())}

    def view(self) -> Table:
        """Return what happened between the last two scrapes, as a table of two columns."""
        before, now = self._last_two()
        table = Table(title=f"{self._url}, last {now.at - before.at:.0f} s", show_header=False, min_width=48)
        table.add_column()
        table.add_column(justify="right")
        for name, value in rows(before, now).items():
            table.add_row(name, value)
        if self._lost:
            table.caption = f"{self._lost}; last seen {time.monotonic() - now.at:.0f} s ago"
        return table


def figures(before: Scrape, now: Scrape) -> dict[str, Any]:
    """Return the numbers of `rows` in seconds, bytes and per second; None if there is no such number."""
    found: dict[str, float | None] = {
        "seconds": now.at - before.at,
        "running": now.total("gateway_in_flight"),
        "running_limit": now.total("gateway_in_flight_limit"),
        "waiting": now.total("gateway_waiting"),
        "waiting_limit": now.total("gateway_waiting_limit"),
        "waiting_for_engine": now.total("gateway_waiting_for_engine"),
        "first_token_p50_seconds": quantile(0.5, before, now, FIRST_TOKEN),
        "first_token_p99_seconds": quantile(0.99, before, now, FIRST_TOKEN),
        "prompt_tokens_per_second": rate(before, now, "gateway_prompt_tokens_total"),
        "completion_tokens_per_second": rate(before, now, "gateway_completion_tokens_total"),
        "images_per_second": rate(before, now, "gateway_images_total"),
        "kv_cache_usage": now.total("vllm:kv_cache_usage_perc"),
        "engine_restarts": now.total("gateway_engine_restarts_total"),
        "process_bytes": now.total("process_resident_memory_bytes"),
    }
    memory = {
        labels["kind"]: {"held_bytes": held, "limit_bytes": now.total("gateway_memory_limit_bytes", **labels)}
        for labels, held in now.matching("gateway_memory_held_bytes")
    }
    numbers = {name: None if value is None or math.isnan(value) else value for name, value in found.items()}
    return {"ready": bool(now.total("gateway_ready")), **numbers, "memory": memory}


def rows(before: Scrape, now: Scrape) -> dict[str, str]:
    """Return the figures by their names, for people."""
    found = figures(before, now)
    prompt, answer = found["prompt_tokens_per_second"], found["completion_tokens_per_second"]
    p50, p99 = (_seconds(found[f"first_token_{name}_seconds"]) for name in ("p50", "p99"))
    return {
        "ready": "yes" if found["ready"] else _start(before, now),
        "running": f"{_count(found['running'])} of {_count(found['running_limit'])}",
        "waiting": f"{_count(found['waiting'])} of {_count(found['waiting_limit'])}",
        "waiting for the engine": _count(found["waiting_for_engine"]),
        "first token p50 / p99": f"{p50} / {p99}",
        "tokens/s prompt / answer": f"{prompt:.1f} / {answer:.1f}",
        "images/s": f"{found['images_per_second']:.1f}",
        "KV cache": _percent(found["kv_cache_usage"]),
        "engine restarts": _count(found["engine_restarts"]),
        **{f"memory: {kind.replace('_', ' ')}": _use(use) for kind, use in found["memory"].items()},
        "memory: process": _bytes(found["process_bytes"]),
    }


def _start(before: Scrape, now: Scrape) -> str:
    """Return how far fetching or loading the weights is; the rate is that between the scrapes."""
    for labels, size in now.matching("gateway_weights_size_bytes"):
        step = labels["step"]
        if not size:
            continue
        done, old = (look.total("gateway_weights_done_bytes", step=step) for look in (now, before))
        rate = (done - (0 if math.isnan(old) else old)) / max(now.at - before.at, 1e-9)
        return f"no, {step} {Progress(int(done), int(size), rate if rate > 0 else 0.0)}"
    return "no"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _use(memory: Mapping[str, float]) -> str:
    return f"{_bytes(memory['held_bytes'])} of {_bytes(memory['limit_bytes'])}"


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    for unit in UNITS[:-1]:
        if value < 1000:  # noqa: PLR2004  # what units are apart
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} {UNITS[-1]}"
