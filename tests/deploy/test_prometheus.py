"""A real Prometheus, with the configuration in deploy/, scrapes a gateway that runs."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
import yaml

from tests.debian import require
from tests.deploy.load import send_every_sort
from tests.servers import Gateway

CONFIGURATION = Path(__file__).parents[2] / "deploy/prometheus.yml"
WITHIN = 30.0  # seconds, to start and to scrape once a second


@contextmanager
def prometheus(folder: Path, target: str, gpus: str | None = None) -> Iterator[str]:
    """Run Prometheus on a port of its own, and yield its address.

    It scrapes `target` (host:port) and, in place of dcgm-exporter, `gpus`.
    """
    text = CONFIGURATION.read_text()
    for given, wanted in (("gateway:8000", target), ("scrape_interval: 15s", "scrape_interval: 1s")):
        assert text.count(given) == 1
        text = text.replace(given, wanted)
    configured = yaml.safe_load(text)
    exporter = configured["scrape_configs"].pop()
    assert exporter.pop("dns_sd_configs") == [{"names": ["dcgm-exporter"], "type": "A", "port": 9400}]
    if gpus:
        configured["scrape_configs"].append(exporter | {"static_configs": [{"targets": [gpus]}]})
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configured))
    shutil.copy(CONFIGURATION.with_name("alerts.yml"), folder)
    log = folder / "prometheus.log"
    command = [
        require("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield address(log)
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def address(log: Path) -> str:
    """Return where Prometheus listens, once its log says so."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        if found := re.search(r'msg="Listening on" address=(\S+)', log.read_text()):
            return f"http://{found[1]}"
        time.sleep(0.1)
    raise TimeoutError(log.read_text())


def value(server: str, query: str) -> float | None:
    """Return the value of `query` where exactly one series has one."""
    with urlopen(f"{server}/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:
        series = json.load(answer)["data"]["result"]
    return float(series[0]["value"][1]) if len(series) == 1 else None


@pytest.mark.engine
def test_promtool_has_nothing_to_say_against_a_running_gateways_metrics_but_vllms_names(
    gateway: Gateway,
) -> None:
    send_every_sort(gateway.url)
    with urlopen(f"{gateway.url}/metrics", timeout=10) as answer:
        page = answer.read()
    command = [require("promtool", "prometheus"), "check", "metrics"]
    done = subprocess.run(command, input=page, capture_output=True, timeout=60, check=False)
    said = [line for line in done.stderr.decode().splitlines() if not line.startswith("vllm:")]
    assert said == []
    assert b"_created" not in page


@pytest.mark.engine
def test_prometheus_scrapes_the_gateway_and_vllm(gateway: Gateway, tmp_path: Path) -> None:
    queries = ("up", "gateway_ready", "vllm:num_requests_running")
    with prometheus(tmp_path, urlsplit(gateway.url).netloc) as server:
        deadline = time.monotonic() + WITHIN
        found: list[float | None] = []
        while found != [1, 1, 0] and time.monotonic() < deadline:
            time.sleep(0.5)
            found = [value(server, query) for query in queries]
    assert found == [1, 1, 0]
