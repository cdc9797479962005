"""How `llava-gateway serve` starts, what it logs, and what it refuses."""

import json
from pathlib import Path

import pytest

from tests.servers import Gateway, start

pytestmark = pytest.mark.engine


def test_start_gets_the_progress_of_loading_from_vllms_worker(gateway: Gateway) -> None:
    assert gateway.log is not None
    assert "Attempted to load weight" not in gateway.log.read_text()  # vLLM, once per tensor
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    stages = [line["stage"] for line in lines if line["event"] == "engine_stage"]
    # The worker counts the bytes it loads; "warming up" comes when it has counted all of them.
    assert [stage for stage in stages if stage != "loading the weights"][:4] == [
        "importing vLLM",
        "starting vLLM's processes",
        "warming up",
        "ready",
    ]


def test_a_port_that_is_taken_is_said_and_ends_with_1(gateway: Gateway, tmp_path: Path) -> None:
    port = gateway.url.rpartition(":")[2]
    _, process = start(tmp_path, "--port", port, profile="demo")
    assert process.wait(60) == 1
    told = (tmp_path / "gateway.log").read_text()
    assert told == f"error: port {port} of 127.0.0.1 is in use; choose another with --port\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (("--profile", "no-such"), {}, "no such profile"),
        ((), {"prot": "8000"}, "GATEWAY_PROT: there is no such setting; did you mean GATEWAY_PORT?"),
        ((), {"max_images": "many"}, "GATEWAY_MAX_IMAGES"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    _, process = start(tmp_path, *arguments, **settings)
    assert process.wait(60) == 2
    assert said in (tmp_path / "gateway.log").read_text()
