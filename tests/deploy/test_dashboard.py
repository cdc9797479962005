"""Grafana's dashboard: as its program writes it, well formed, and every panel has data."""

import json
import math
import runpy
import time
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
import yaml

from tests.deploy.load import send_every_sort
from tests.deploy.test_prometheus import prometheus
from tests.pages import files_at
from tests.servers import Gateway

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"
BOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/llava-gateway.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
# As dcgm-exporter writes its default metrics.
GPU = "".join(
    f'DCGM_FI_DEV_{name}{{gpu="0",UUID="GPU-1",modelName="NVIDIA L4"}} {value}\n'
    for name, value in {
        "GPU_UTIL": 50,
        "FB_USED": 15,
        "FB_FREE": 5,
        "GPU_TEMP": 60,
        "POWER_USAGE": 70,
    }.items()
)
WITHIN = 45.0  # seconds, for all panels to have data
# What Grafana puts in: for an hour in panels of 240 points, scraped once a second (max(15 s + 1 s, 4 × 1 s)).
VARIABLES = {"$__rate_interval": "16s", "$instance": ".*"}


def test_dashboard_is_what_its_program_writes() -> None:
    made = runpy.run_path(str(GRAFANA / "make_dashboard.py"))
    assert made["dashboard"]() == BOARD


def test_rows_are_those_an_operator_asks() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Is it well?", "How fast?", "What waits?", "Images", "Engine", "Machine", "Callers"]


def test_panels_have_ids_and_queries_of_their_own() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in PANELS:
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(references) == len(set(references))


def test_panels_stand_beside_each_other_in_the_grid() -> None:
    for one, other in combinations([panel["gridPos"] for panel in BOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in BOARD["panels"])


def test_panels_have_units_and_read_the_chosen_source_and_replica() -> None:
    assert {variable["name"] for variable in BOARD["templating"]["list"]} == {"datasource", "instance"}
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            of_a_gpu = target["expr"].startswith("DCGM_")  # its instance is an exporter and no replica
            assert ('instance=~"$instance"' in target["expr"]) is not of_a_gpu


def test_grafana_is_told_where_compose_puts_the_dashboard() -> None:
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert {source for source in mounts if not (GRAFANA.parent / source).exists()} == set()
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/llava-gateway.yml").read_text())
    assert provider["providers"][0]["options"]["path"] == mounts["./grafana/dashboards"]
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    address = urlsplit(sources["datasources"][0]["url"])
    assert compose[address.hostname]["ports"] == [f"127.0.0.1:{address.port}:{address.port}"]


def numbers(server: str, query: str) -> list[float]:
    """Return the values of `query` now; those that are no number are left out."""
    for variable, chosen in VARIABLES.items():
        query = query.replace(variable, chosen)
    with urlopen(f"{server}/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:
        found = [float(series["value"][1]) for series in json.load(answer)["data"]["result"]]
    return [value for value in found if not math.isnan(value)]


def without_data(server: str) -> list[tuple[str, str]]:
    return [
        (panel["title"], target["expr"])
        for panel in PANELS
        for target in panel["targets"]
        if not numbers(server, target["expr"])
    ]


@pytest.mark.engine
def test_every_panel_has_data(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text(GPU)
    with (
        files_at(tmp_path) as exporter,
        prometheus(tmp_path, urlsplit(gateway.url).netloc, urlsplit(exporter).netloc) as server,
    ):
        deadline = time.monotonic() + WITHIN
        while True:
            send_every_sort(gateway.url)
            time.sleep(2)  # scraped once a second: a counter's rise is seen between two scrapes
            empty = without_data(server)
            if not empty or time.monotonic() > deadline:
                break
        assert empty == []
