"""Reads a gateway's `/metrics`, and computes rates and quantiles between two scrapes."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from gateway.cli.common import ExitCode

TIMEOUT: Final = 5.0  # seconds


class ScrapeError(Exception):
    """The metrics could not be read; the message says why, and `code` is the exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Scrape:
    """The series of one scrape, by name and labels; `at` is in seconds."""

    at: float
    series: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]

    def matching(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        for (found, pairs), value in self.series.items():
            if found == name and labels.items() <= dict(pairs).items():
                yield dict(pairs), value

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the series; NaN if there is none."""
        values = [value for _, value in self.matching(name, **labels)]
        return sum(values) if values else math.nan


def parse(page: str, at: float) -> Scrape:
    """Return the series of a page in Prometheus' text format. Raises ScrapeError if it is not a gateway's."""
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
    """Read `url`/metrics. Raises ScrapeError."""
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
    """Return a counter's growth per second; a counter that fell was reset to 0 by a restart."""
    new, old = now.total(name), before.total(name)
    if math.isnan(new):
        return 0.0
    grown = new if math.isnan(old) or new < old else new - old
    return grown / max(now.at - before.at, 1e-9)


def quantile(q: float, before: Scrape, now: Scrape, name: str) -> float:
    """Return a quantile of what a histogram counted between two scrapes, as Prometheus estimates it.

    The estimate is linear within a bucket, the largest finite bound in the last bucket, and NaN if nothing
    was counted.
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
