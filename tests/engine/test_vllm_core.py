"""The core is started as intended, and a failed step logs which requests ran, without their content."""

import importlib
import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine_config import profile as profiles
from gateway.engine import environment, fork_server, vllm_core
from gateway.engine.interface import Job, Sampling

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ID = "chatcmpl-1"
STOP = "unmistakable stop"
PIXEL = 0.123
PROMPT = [7001, 7002, 7003]


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return vLLM's module, restored after the test."""
    core = importlib.import_module("vllm.v1.engine.core")
    monkeypatch.setattr(core, "dump_engine_exception", core.dump_engine_exception)
    scheduler = importlib.import_module("vllm.v1.core.sched.scheduler")
    monkeypatch.setattr(scheduler, "Scheduler", scheduler.Scheduler)
    for name in ("uniproc_executor", "multiproc_executor"):
        executor = importlib.import_module(f"vllm.v1.executor.{name}")
        monkeypatch.setattr(executor, "get_file_store_init_method", executor.get_file_store_init_method)
    return core


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Return the lines that vLLM logs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("vllm")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def scheduled() -> Any:
    """Return a step of one request with an image and a stop string, in vLLM's types."""
    output = importlib.import_module("vllm.v1.core.sched.output")
    inputs = importlib.import_module("vllm.multimodal.inputs")
    sampling = importlib.import_module("gateway.engine.vllm_sampling")
    pixels = inputs.MultiModalFieldElem(
        data=torch.full((3, 2, 2), PIXEL), field=inputs.MultiModalBatchedField()
    )
    picture = inputs.MultiModalFeatureSpec(
        data=inputs.MultiModalKwargsItem({"pixel_values": pixels}),
        modality="image",
        identifier="key",
        mm_position=inputs.PlaceholderRange(0, 1),
    )
    request = output.NewRequestData(
        req_id=ID,
        prompt_token_ids=PROMPT,
        mm_features=[picture],
        sampling_params=sampling.sampling_params(Job(ID, PROMPT, (), Sampling(8, stop=(STOP,)))),
        pooling_params=None,
        block_ids=([1],),
        num_computed_tokens=0,
        lora_request=None,
    )
    return replace(
        output.SchedulerOutput.make_empty(),
        scheduled_new_reqs=[request],
        num_scheduled_tokens={ID: 3},
        total_num_scheduled_tokens=3,
    )


def fail_in_a_step(core: Any) -> None:
    engine = SimpleNamespace(vllm_config="configuration", scheduler=SimpleNamespace(make_stats=lambda: None))
    with (
        pytest.raises(RuntimeError, match="a bug of vLLM's"),
        core.EngineCore.log_error_detail(engine, scheduled()),
    ):
        raise RuntimeError("a bug of vLLM's")


def test_vllms_own_dump_has_stop_strings_and_pixels(core: Any, logged: list[str]) -> None:
    """Otherwise the next test would prove nothing."""
    fail_in_a_step(core)
    told = "\n".join(logged)
    assert STOP in told
    assert str(PIXEL) in told


def test_the_log_of_a_step_that_fails_says_which_requests_ran_and_nothing_of_their_content(
    core: Any, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    monkeypatch.setattr(core.EngineCoreProc, "run_engine_core", lambda *_, **named: runs.append(named))
    vllm_core.run_engine_core(dp_rank=0)
    assert runs == [{"dp_rank": 0}]
    fail_in_a_step(core)
    assert logged == [f"The engine died in a step of 3 tokens for the requests {{'{ID}': 3}}"]


@pytest.mark.parametrize("name", profiles.names())
def test_the_core_is_spawned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM forks it by default. `make gpu-config` checks the same for every GPU."""
    monkeypatch.delenv("VLLM_WORKER_MULTIPROC_METHOD", raising=False)
    context = importlib.import_module("vllm.utils.system_utils").get_mp_context
    assert context().get_start_method() == "fork"  # Otherwise the next line would prove nothing.
    with environment.applied(environment.of_engine(profiles.load(name))):
        assert context().get_start_method() == "spawn"


def test_a_core_that_is_forked_runs_vllms_own_once(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child has this process's replacement; a spawned one does not."""
    told, tell = multiprocessing.Pipe(duplex=False)
    theirs = staticmethod(lambda **named: tell.send(named))
    monkeypatch.setattr(core.EngineCoreProc, "run_engine_core", theirs)
    before = core.EngineCoreProc.run_engine_core
    with vllm_core.started_here():
        assert core.EngineCoreProc.run_engine_core is vllm_core.run_engine_core
        child = multiprocessing.get_context("fork").Process(
            target=core.EngineCoreProc.run_engine_core, kwargs={"dp_rank": 0}
        )
        child.start()
    child.join(30)
    assert child.exitcode == 0
    assert told.recv() == {"dp_rank": 0}
    assert not told.poll()
    assert core.EngineCoreProc.run_engine_core is before


def test_the_core_is_started_in_the_context_of_the_fork_server_while_the_block_runs() -> None:
    starter, context = importlib.import_module("vllm.v1.engine.utils"), fork_server.Context()
    before = starter.get_mp_context
    with vllm_core.started_here(context):
        assert starter.get_mp_context() is context
    assert starter.get_mp_context is before


def test_the_core_on_a_cpu_paces_prompts_and_meets_its_workers_in_the_engines_directory(
    core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.EngineCoreProc, "run_engine_core", lambda *_, **__: None)
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "/somewhere")
    vllm_core.run_engine_core(dp_rank=0)
    config = importlib.import_module("vllm.config").SchedulerConfig.default_factory(async_scheduling=False)
    assert config.get_scheduler_cls().__name__ == "PacedScheduler"
    for name in ("uniproc_executor", "multiproc_executor"):
        executor = importlib.import_module(f"vllm.v1.executor.{name}")
        assert executor.get_file_store_init_method().startswith("file:///somewhere/vllm_dist_")
