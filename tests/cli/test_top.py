"""`llava-gateway top`: its arithmetic, and the command against a gateway that runs."""

import asyncio
import json
import math
import re
import sys

import pytest

from gateway.cli import scrape as metrics
from gateway.cli import top_view
from tests.api.asking import ask, chat
from tests.scripted_engine import ScriptedEngine
from tests.servers import free_port, scripted_gateway


def scrape(at: float, **series: float) -> metrics.Scrape:
    page = "\n".join(f"{name} {value}" for name, value in {"gateway_ready": 1.0, **series}.items())
    return metrics.parse(page + "\n", at)


def buckets(at: float, *counts: int) -> metrics.Scrape:
    """Return a scrape of a histogram `x` with bounds 1, 2, 4 and infinity, and cumulative counts."""
    lines = (f'x_bucket{{le="{le}"}} {n}\n' for le, n in zip(("1", "2", "4", "+Inf"), counts, strict=True))
    return metrics.parse("gateway_ready 1\n" + "".join(lines), at)


def test_rate_is_growth_per_second() -> None:
    assert metrics.rate(scrape(10, x_total=5), scrape(12, x_total=25), "x_total") == 10


def test_counter_that_was_set_back_grew_from_nothing() -> None:
    assert metrics.rate(scrape(10, x_total=100), scrape(12, x_total=6), "x_total") == 3


def test_counter_that_is_new_grew_from_nothing_and_a_missing_one_did_not() -> None:
    assert metrics.rate(scrape(10), scrape(12, x_total=6), "x_total") == 3
    assert metrics.rate(scrape(10), scrape(12), "x_total") == 0


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.5, 1.5), (0.25, 0.75 / 0.75), (0.75, 2.0), (0.875, 3.0), (1.0, 4.0)],
)
def test_quantiles_are_of_what_came_between_and_linear_in_a_bucket(q: float, expected: float) -> None:
    before, now = buckets(0, 100, 100, 100, 100), buckets(1, 102, 106, 108, 108)
    assert metrics.quantile(q, before, now, "x") == pytest.approx(expected)


def test_quantile_past_the_last_bound_is_that_bound() -> None:
    assert metrics.quantile(0.99, buckets(0, 0, 0, 0, 0), buckets(1, 0, 0, 0, 5), "x") == 4


def test_quantile_of_nothing_is_no_number() -> None:
    assert math.isnan(metrics.quantile(0.5, buckets(0, 1, 2, 3, 4), buckets(1, 1, 2, 3, 4), "x"))


def loaded(at: float, done: float) -> metrics.Scrape:
    lines = f"""gateway_ready 0
gateway_weights_done_bytes{{step="fetching"}} 0
gateway_weights_size_bytes{{step="fetching"}} 0
gateway_weights_done_bytes{{step="loading"}} {done}
gateway_weights_size_bytes{{step="loading"}} 14100000000
"""
    return metrics.parse(lines, at)


def test_start_is_shown_with_bytes_and_time_left() -> None:
    rows = top_view.rows(loaded(10, 3_000_000_000), loaded(12, 3_200_000_000))
    assert rows["ready"] == "no, loading 3.2 of 14.1 GB, 100 MB/s, 2 min left"
    assert top_view.rows(loaded(10, 5.0), loaded(12, 5.0))["ready"] == "no, loading 0.0 of 14.1 GB"


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "top", "--once", "--interval", "0.5", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_once_prints_what_runs_and_what_came() -> None:
    async with scripted_gateway(ScriptedEngine(pause=0.1), max_running=7) as gateway:

        async def keep_asking() -> None:
            while True:
                await ask(gateway, chat(stream=True))

        asking = asyncio.create_task(keep_asking())
        code, output, _ = await run("--base-url", gateway.url)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert code == 0
    shown = {name.strip(): value.strip() for name, value in re.findall(r"│ (.+?) +│ +(.+?) │", output)}
    assert shown["ready"] == "yes"
    assert re.fullmatch(r"[01] of 7", shown["running"])
    first, last = re.findall(r"(\d+) ms", shown["first token p50 / p99"])
    assert 50 <= int(first) <= int(last)  # a word comes after 100 ms
    assert float(shown["tokens/s prompt / answer"].split(" / ")[1]) > 0
    assert shown["memory: bodies"].endswith(" of 537 MB")


async def test_keyed_metrics_are_read_with_a_key_and_refused_without() -> None:
    settings = {"api_keys": ("ann:sk-1",), "metrics_access": "key"}
    async with scripted_gateway(ScriptedEngine(), **settings) as gateway:
        assert (await run("--base-url", gateway.url, "--api-key", "sk-1"))[0] == 0
        code, _, errors = await run("--base-url", gateway.url)
        assert (code, errors.splitlines()[-1]) == (
            4,
            f"error: {gateway.url}/metrics asks for an API key; pass --api-key or set OPENAI_API_KEY",
        )
        code, _, errors = await run("--base-url", gateway.url, "--api-key", "sk-2")
    assert code == 4
    assert "/metrics refused the API key" in errors


async def test_address_that_does_not_answer_is_told() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, _, errors = await run("--base-url", url)
    assert code == 3
    assert f"nothing answers at {url}" in errors


async def test_page_that_is_not_a_gateways_is_told() -> None:
    with pytest.raises(metrics.ScrapeError, match="not the metrics of a llava-gateway"):
        metrics.parse("up 1\n", 0)
    with pytest.raises(metrics.ScrapeError, match="text format"):
        metrics.parse("<html>\n", 0)


def test_json_has_the_numbers_of_the_table() -> None:
    before, now = scrape(10, gateway_images_total=5), scrape(12, gateway_images_total=25, gateway_in_flight=3)
    scrapes = iter((before, now))

    def look() -> metrics.Scrape:
        try:
            return next(scrapes)
        except StopIteration:
            raise metrics.ScrapeError("nothing answers") from None

    watch = top_view.Watch(look, "http://here")
    watch.look()
    watch.look()
    figures = watch.figures()
    assert figures["ready"] is True
    assert (figures["running"], figures["images_per_second"], figures["seconds"]) == (3, 10, 2)
    assert (figures["first_token_p50_seconds"], figures["memory"], figures["error"]) == (None, {}, None)
    with pytest.raises(metrics.ScrapeError):
        watch.look()
    assert watch.figures() == {**figures, "error": "nothing answers"}


async def test_json_is_one_line_for_one_look() -> None:
    async with scripted_gateway(ScriptedEngine(), max_running=7) as gateway:
        code, output, _ = await run("--json", "--base-url", gateway.url)
    assert (code, output.count("\n")) == (0, 1)
    figures = json.loads(output)
    assert (figures["url"], figures["running_limit"]) == (gateway.url, 7)
    assert figures["memory"]["bodies"]["limit_bytes"] > 0
