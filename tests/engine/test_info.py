"""/metrics shows the engine's choices, and the KV cache has the planned size."""

import re
from pathlib import Path

import psutil
import pytest
from openai import AsyncOpenAI, BadRequestError

from engine_config import machine
from engine_config import plan as plans
from engine_config import profile as profiles
from engine_config.machine import GPUs, Machine
from engine_config.plan import Plan
from tests.api.asking import send
from tests.servers import Gateway, core, metric, samples

pytestmark = pytest.mark.engine


def planned() -> Plan:
    demo = profiles.load("demo")
    shape = plans.shape_of(demo)
    assert shape is not None
    return plans.fit(demo, shape, Machine(GPUs("no GPU"), machine.cores(), machine.memory()))


async def test_attention_backend_that_runs_is_a_label(gateway: Gateway) -> None:
    labels = {"attention_backend": planned().attention_backend, "dtype": "bfloat16", "quantization": "none"}
    assert labels["attention_backend"] == "CPU_ATTN"
    assert await metric(gateway, "gateway_engine_info", version="0.32.0", **labels) == 1


async def test_memory_and_cpu_time_of_the_engine_are_those_of_its_processes(gateway: Gateway) -> None:
    running = core(gateway)
    processes = [running, *running.children(recursive=True)]
    memory = sum(process.memory_info().rss for process in processes)
    assert await metric(gateway, "gateway_engine_memory_bytes") == pytest.approx(memory, rel=0.1)
    used = sum(process.cpu_times().user + process.cpu_times().system for process in processes)
    assert await metric(gateway, "gateway_engine_cpu_seconds_total") >= used > 0


async def test_kv_cache_has_the_planned_size_within_2_percent(gateway: Gateway) -> None:
    room = await metric(gateway, "gateway_kv_cache_tokens")
    assert room == pytest.approx(planned().kv_tokens, rel=0.02)


async def test_context_length_told_is_the_engines(gateway: Gateway) -> None:
    async with AsyncOpenAI(base_url=gateway.api, api_key="none", max_retries=0) as client:
        length = (await client.models.retrieve("llava-demo")).model_dump()["max_model_len"]
        most = [5] * (length - 2)  # `<s>` starts the prompt, and the answer is one token
        answer = await client.completions.create(model="llava-demo", prompt=most, max_tokens=1)
        assert answer.usage is not None
        assert answer.usage.total_tokens == length
        with pytest.raises(BadRequestError, match=f"length is {length} tokens.* {length + 1} tokens"):
            await client.completions.create(model="llava-demo", prompt=[*most, 5, 5], max_tokens=1)


@pytest.mark.parametrize(("path", "field"), [("/detokenize", "tokens"), ("/v1/completions", "prompt")])
async def test_ids_outside_of_the_vocabulary_are_refused(gateway: Gateway, path: str, field: str) -> None:
    body = {"model": "llava-demo", field: [5, 10**6]}
    answer = await send(gateway, "POST", path, json=body)
    assert answer.status == 400
    assert answer.error["param"] == f"{field}[1]"
    assert re.fullmatch(rf"{field}\[1\]: the model has \d+ tokens; got {10**6}", answer.error["message"])


def test_the_core_is_forked_by_a_process_without_threads_and_has_no_socket_or_lock_of_ours(
    gateway: Gateway,
) -> None:
    engine = core(gateway)
    server = psutil.Process(engine.ppid())
    assert server.ppid() == gateway.pid
    assert server.num_threads() == 1
    ours = held(gateway.pid)
    assert ours  # else the next line proves nothing
    assert ours & (held(server.pid) | held(engine.pid)) == set()


def test_no_process_of_the_engine_has_imported_audio(gateway: Gateway) -> None:
    """scipy.signal takes an eighth of vLLM's imports, and LLaVA has no audio."""
    engine = core(gateway)
    for pid in (gateway.pid, engine.pid, engine.ppid()):
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "/torch/lib/" in mapped  # else the next line proves nothing
        assert "/scipy/signal/" not in mapped


def held(pid: int) -> set[str]:
    """Return a process's open sockets and locks."""
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return {link for link in links if link.startswith("socket:") or link.endswith("/lock")}


async def test_metrics_name_the_model_and_show_no_path_of_the_machine(gateway: Gateway) -> None:
    running = await samples(gateway, "vllm:num_requests_running")
    assert {sample.labels["model_name"] for sample in running} == {"llava-demo"}
    page = (await send(gateway, "GET", "/metrics")).body
    assert str(profiles.FOLDER).encode() not in page
