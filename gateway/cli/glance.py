"""What `llava-gateway top` shows: two scrapes of a gateway's `/metrics`, and what happened between them."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from engine_config.progress import Progress
from gateway.cli.common import ExitCode

TIMEOUT: Final = 5.0  # seconds
FIRST_TOKEN: Final = "gateway_time_to_first_token_seconds"  # noqa: S105  # a metric's name
STARTED: Final = "process_start_time_seconds"
UNITS: Final = ("B", "KB", "MB", "GB")


class ScrapeError(Exception):
    """The metrics could not be read; the message says why, and `code` is what the command exits with."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Scrape:
    """The series of one look at `/metrics`, by name and labels; `at` is in seconds."""

    at: float
    series: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]

    def matching(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        for (found, pairs), value in self.series.items():
            if found == name and labels.items() <= dict(pairs).items():
                yield dict(pairs), value

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the series; NaN where there is none."""
        values = [value for _, value in self.matching(name, **labels)]
        return sum(values) if values else math.nan


def parse(page: str, at: float) -> Scrape:
    """Return the series of a page in Prometheus' text format. Raises ScrapeError where it is none of ours."""
    try:
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    except ValueError:
        raise ScrapeError("the answer is not in Prometheus' text format") from None
    series = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    scrape = Scrape(at, series)
    if math.isnan(scrape.total("gateway_ready")):
        raise ScrapeError("these are not the metrics of a llava-gateway")
    return scrape


def scrape(client: httpx2.Client, url: str) -> Scrape:
    """Look at `url`/metrics. Raises ScrapeError."""
    try:
        answer = client.get(f"{url.rstrip('/')}/metrics")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        message = f"nothing answers at {url}: {error or type(error).__name__}"
        raise ScrapeError(message, ExitCode.NO_SERVER) from None
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        sent = "authorization" in answer.request.headers
        asks = "asks for an API key; pass --api-key or set OPENAI_API_KEY"
        problem = "refused the API key" if sent else asks
        raise ScrapeError(f"{url}/metrics {problem}", ExitCode.UNAUTHORIZED)
    if answer.status_code != HTTPStatus.OK:
        raise ScrapeError(f"{url}/metrics answered {answer.status_code}; is it on GATEWAY_METRICS_PORT?")
    return parse(answer.text, time.monotonic())


def rate(before: Scrape, now: Scrape, name: str) -> float:
    """Return by how much a counter grew per second; one that fell was set back to 0 by a restart."""
    new, old = now.total(name), before.total(name)
    if math.isnan(new):
        return 0.0
    grown = new if math.isnan(old) or new < old else new - old
    return grown / max(now.at - before.at, 1e-9)


def quantile(q: float, before: Scrape, now: Scrape, name: str) -> float:
    """Return a quantile of what a histogram counted between two scrapes, as Prometheus estimates it.

    It is linear within a bucket; NaN where nothing was counted, the largest finite bound in the last bucket.
    """
    old = {labels["le"]: value for labels, value in before.matching(f"{name}_bucket")}
    grown = sorted(
        (float(labels["le"]), value - old.get(labels["le"], 0.0))
        for labels, value in now.matching(f"{name}_bucket")
    )
    if not grown or grown[-1][1] <= 0:
        return math.nan
    rank, low, below = q * grown[-1][1], 0.0, 0.0
    for bound, count in grown:
        if count >= rank and count > below:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low


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

    def view(self) -> Table:
        """Return what happened between the last two scrapes, as a table of two columns."""
        before, now = self._scrapes
        if before.total(STARTED) < now.total(STARTED):  # Another process: its counters began at 0.
            before = Scrape(before.at, {})
        table = Table(title=f"{self._url}, last {now.at - before.at:.0f} s", show_header=False, min_width=48)
        table.add_column()
        table.add_column(justify="right")
        for name, value in rows(before, now).items():
            table.add_row(name, value)
        if self._lost:
            table.caption = f"{self._lost}; last seen {time.monotonic() - now.at:.0f} s ago"
        return table


def rows(before: Scrape, now: Scrape) -> dict[str, str]:
    """Return the figures by their names, for people."""
    p50, p99 = (quantile(q, before, now, FIRST_TOKEN) for q in (0.5, 0.99))
    prompt, answer = (rate(before, now, f"gateway_{name}_tokens_total") for name in ("prompt", "completion"))
    shown = {
        "ready": "yes" if now.total("gateway_ready") else _start(before, now),
        "running": _of(now, "gateway_in_flight", "gateway_in_flight_limit"),
        "waiting": _of(now, "gateway_waiting", "gateway_waiting_limit"),
        "waiting for the engine": _count(now.total("gateway_waiting_for_engine")),
        "first token p50 / p99": f"{_seconds(p50)} / {_seconds(p99)}",
        "tokens/s prompt / answer": f"{prompt:.1f} / {answer:.1f}",
        "images/s": f"{rate(before, now, 'gateway_images_total'):.1f}",
        "KV cache": _share(now.total("vllm:kv_cache_usage_perc")),
        "engine restarts": f"{now.total('gateway_engine_restarts_total'):.0f}",
    }
    for labels, held in now.matching("gateway_memory_held_bytes"):
        limit = now.total("gateway_memory_limit_bytes", kind=labels["kind"])
        shown[f"memory: {labels['kind'].replace('_', ' ')}"] = f"{_bytes(held)} of {_bytes(limit)}"
    shown["memory: process"] = _bytes(now.total("process_resident_memory_bytes"))
    return shown


def _start(before: Scrape, now: Scrape) -> str:
    """Say how far the weights are fetched or loaded, where they are; the rate is that between the scrapes."""
    for labels, size in now.matching("gateway_weights_size_bytes"):
        step = labels["step"]
        if not size:
            continue
        done, old = (look.total("gateway_weights_done_bytes", step=step) for look in (now, before))
        rate = (done - (0 if math.isnan(old) else old)) / max(now.at - before.at, 1e-9)
        return f"no, {step} {Progress(int(done), int(size), rate if rate > 0 else 0.0)}"
    return "no"


def _of(now: Scrape, name: str, limit: str) -> str:
    return f"{now.total(name):.0f} of {now.total(limit):.0f}"


def _count(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"


def _seconds(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def _bytes(value: float) -> str:
    if math.isnan(value):
        return "-"
    for unit in UNITS[:-1]:
        if value < 1000:  # noqa: PLR2004  # what units are apart
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} {UNITS[-1]}"
