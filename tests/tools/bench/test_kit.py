"""The parts of tools.bench that a program on a rented GPU imports keep their names and form."""

import dataclasses
import inspect
import os
from pathlib import Path

import orjson

from engine_config import profile as profiles
from tools.bench import load, processes, servers, workloads
from tools.bench.figures import Measured
from tools.bench.pictures import photograph_jpeg


def test_servers_are_run_by_name_with_limits_and_environment_of_ones_own() -> None:
    # Module variables, which such a program sets; they are read at each start.
    assert (type(servers.READY_WITHIN), type(servers.LEAVE_WITHIN)) == (float, float)
    assert list(inspect.signature(servers.running).parameters)[:3] == ["name", "profile", "log"]
    assert servers.NAMES == ("ours", "vllm")
    assert [field.name for field in dataclasses.fields(servers.Server)] == [
        *("name", "port", "pid", "start_seconds"),
    ]
    assert servers.environment(profiles.load("demo"))["VLLM_NO_USAGE_STATS"] == "1"


def test_a_closed_loop_of_picture_chats_can_be_built() -> None:
    shot = photograph_jpeg("seed", 64, 48)
    asks = [
        workloads.Ask(
            workloads._request("llava-7b", [workloads._user("What is it?", shot)], 104, stream=True)
        )
        for _ in range(3)
    ]
    plan = workloads.Load(tuple(asks[2:]), tuple((ask,) for ask in asks[:2]), 2)
    assert (len(plan.warm_up), len(plan.conversations), plan.concurrency) == (1, 2, 2)
    body = orjson.loads(asks[0].body)
    assert (body["model"], body["max_tokens"], body["min_tokens"], body["stream"]) == (
        "llava-7b",
        104,
        104,
        True,
    )
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "text"]


def test_what_is_measured_has_these_fields() -> None:
    assert list(inspect.signature(load.measure).parameters) == ["plan", "port"]
    used = {"figures", "failures", "client_share", "prompt_tokens", "requests", "completion_tokens"}
    assert used <= {field.name for field in dataclasses.fields(Measured)}
    with processes.cores(os.getpgid(0)) as busy:
        pass
    assert all(isinstance(share, float) for share in busy.values())


def test_its_other_inputs_are_where_it_looks() -> None:
    root = Path(__file__).parents[3]
    assert 'model = "demo_model"' in (root / "engine_config/profiles/demo.toml").read_text()
    assert (root / "docs/shapes.png").is_file()
