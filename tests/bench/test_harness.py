"""The client, the bodies, the pictures and the servers' commands are what the comparison says they are."""

import asyncio
import io
import random
from pathlib import Path
from typing import Any

import jinja2.sandbox
import orjson
import pytest
from PIL import Image
from rich.console import Console

from engine_config.profile import load as load_profile
from gateway.engine.vllm_engine import engine_arguments
from gateway.prompt.styles import CARD
from gateway.prompt.template import SLOT, End, Message, Role, Slot, render
from gateway.schema.validation import parse
from tests.bench import client, pictures, report, servers, soak, stages, workloads
from tests.bench.connection import Connection, Exchange
from tests.bench.figures import Measured
from tests.bench.workloads import WORKLOADS, Ask, Load, Mixed
from tests.scripted_engine import MODEL as SCRIPTED
from tests.scripted_engine import ScriptedEngine
from tests.servers import scripted_gateway

MODEL = SCRIPTED.name


def small_pictures(count: int, name: str = "test") -> Load:
    def shoot(seed: str) -> pictures.Shot:
        return pictures.photograph_jpeg(seed, 336, 336)

    return workloads.pictures(MODEL, count, name=name, shoot=shoot, concurrency=4)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_a_load_is_asked_whole_and_measured() -> None:
    engine = ScriptedEngine()
    async with scripted_gateway(engine) as gateway:
        measured = await client.measure(small_pictures(10), port_of(gateway.url))
    assert measured.failures == ()
    assert measured.requests == 10
    assert measured.completion_tokens == (3, 3)
    assert measured.figures["requests_per_s"] == pytest.approx(10 / measured.seconds)
    assert len(engine.jobs) == 12, "two of them to warm up"


async def test_streamed_answers_have_their_times() -> None:
    engine = ScriptedEngine(pause=0.02)
    async with scripted_gateway(engine) as gateway:
        plan = workloads.text(MODEL, 4, concurrency=2)
        measured = await client.measure(plan, port_of(gateway.url))
    assert measured.figures["ttft_ms_p50"] >= 20
    assert 15 <= measured.figures["gap_ms_p50"] <= 200
    assert measured.figures["events_per_answer"] == 3


async def test_probes_keep_their_rate_while_pictures_pour() -> None:
    engine = ScriptedEngine(pause=0.05)
    async with scripted_gateway(engine) as gateway:
        probes = workloads.text(MODEL, 10, concurrency=1)
        plan = Mixed(tuple(ask for (ask,) in probes.conversations), 20.0, small_pictures(200))
        measured = await client.measure(plan, port_of(gateway.url))
    # The tenth probe is due at 0.45 s, and takes three pauses.
    assert 0.6 <= measured.seconds <= 3
    assert measured.figures["pictures_per_s"] > 1
    assert 50 <= measured.figures["ttft_ms_p50"] <= 1000
    assert measured.failures == ()


async def test_a_probe_that_had_to_wait_is_timed_from_when_it_was_due() -> None:
    sent: list[float] = []

    async def send(_: bytes) -> Any:
        await asyncio.sleep(0)
        sent.append(asyncio.get_running_loop().time())
        return Exchange(sent=float("nan"))

    exchanges, lag = await client._open_loop(send, [Ask(b"")] * 3, rate=20)
    assert [round(after.sent - exchanges[0].sent, 6) for after in exchanges] == [0.0, 0.05, 0.1]
    assert 0 <= lag < 1


async def test_the_clients_process_builds_and_runs_what_it_is_told() -> None:
    def ask(port: int) -> Measured:
        with client.LoadClient(MODEL, quick=True) as process:
            process.prepare(["text-1"])
            return process.run("text-1", port)

    async with scripted_gateway(ScriptedEngine()) as gateway:
        measured = await asyncio.to_thread(ask, port_of(gateway.url))
    assert (measured.requests, measured.failures) == (WORKLOADS["text-1"].size.quick, ())
    assert measured.client_share > 0


async def test_a_refused_request_is_counted_and_told() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway:
        plan = workloads.text("another-model", 2, concurrency=1)
        measured = await client.measure(plan, port_of(gateway.url))
    assert len(measured.failures) == 2
    assert measured.failures[0].startswith("404: ")


async def test_a_connection_that_breaks_is_an_error_and_not_a_wait() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
        with pytest.raises(ConnectionError):
            await connection.ask(b"GET / HTTP/1.1\r\n\r\n")
        connection.close()


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_body_is_a_valid_request_and_no_two_are_the_same(name: str) -> None:
    plan = WORKLOADS[name].make(MODEL, 1)
    load = plan.pour if isinstance(plan, Mixed) else plan
    asks = [*load.warm_up, *(ask for conversation in load.conversations for ask in conversation)]
    requests = [parse(ask.body) for ask in asks[:12]]
    assert all(request.max_tokens == request.min_tokens for request in requests)
    assert all(request.ignore_eos for request in requests)
    pictures_of = {url for ask in asks for url in urls(ask)}
    if not name.startswith("text"):
        assert all(ask.answer for ask in asks)
    if name in {"jpeg-336", "jpeg-1600", "jpeg-12mp", "png-2000"}:
        assert len(pictures_of) == len(asks)


def urls(ask: Ask) -> list[str]:
    messages = orjson.loads(ask.body)["messages"]
    parts = [
        part for message in messages if isinstance(message["content"], list) for part in message["content"]
    ]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def test_a_chat_sends_everything_again_and_brings_two_pictures() -> None:
    plan = workloads.chat(MODEL, 1)
    ((*turns,),) = plan.conversations
    assert [len(urls(turn)) for turn in turns] == [1, 1, 1, 2, 2, 2]
    assert len(orjson.loads(turns[-1].body)["messages"]) == 11


def test_pictures_are_the_same_each_time_and_as_large_as_a_cameras() -> None:
    shot = pictures.photograph_jpeg("one", 4000, 3000)
    assert shot.data == pictures.photograph_jpeg("one", 4000, 3000).data
    assert shot.data != pictures.photograph_jpeg("two", 4000, 3000).data
    assert len(shot.data) >= 3_000_000
    assert Image.open(io.BytesIO(shot.data)).size == (4000, 3000)


def test_a_screenshot_is_a_png_of_2000_pixels() -> None:
    shot = pictures.screenshot_png("one")
    image = Image.open(io.BytesIO(shot.data))
    assert (image.format, image.size) == ("PNG", (2000, 1250))
    assert len(shot.data) >= 100_000


@pytest.mark.parametrize("ratio", [1.0, 0.75, 0.625])
def test_all_shapes_lie_in_the_middle_square(ratio: float) -> None:
    scene = pictures.middle_scene(random.Random(5), ratio)
    assert scene.height == ratio
    for shape in scene.shapes:
        assert 0.5 - ratio / 2 <= shape.x - shape.radius
        assert shape.x + shape.radius <= 0.5 + ratio / 2


CONVERSATIONS: list[list[tuple[Role, str | tuple[str | Slot, ...]]]] = [
    [("user", "Hello")],
    [("user", (SLOT, "What is it?"))],
    [("user", ("Look:", SLOT, SLOT, "Which has the star?"))],
    [
        ("system", "Be brief."),
        ("user", (SLOT, "What colour is the circle?")),
        ("assistant", "Red."),
        ("user", (SLOT, "And here?")),
    ],
]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_vllms_server_is_given_a_template_that_renders_our_prompt(conversation: Any) -> None:
    # As transformers does it: https://github.com/huggingface/transformers, utils/chat_template_utils.py.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(servers.TEMPLATE.read_text())
    sent = [{"role": role, "content": openai_parts(said)} for role, said in conversation]
    ours = render(
        [Message(role, (said,) if isinstance(said, str) else said) for role, said in conversation], CARD
    )
    written = "".join(segment.value if isinstance(segment, Slot | End) else segment for segment in ours)
    assert template.render(messages=sent, add_generation_prompt=True) == f"<s>{written}"


def openai_parts(said: str | tuple[str | Slot, ...]) -> list[dict[str, str]]:
    parts = (said,) if isinstance(said, str) else said
    return [{"type": "image"} if part is SLOT else {"type": "text", "text": str(part)} for part in parts]


def test_engine_arguments_become_flags() -> None:
    arguments = {
        "model": "m",
        "limit_mm_per_prompt": {"image": 7},
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "mm_processor_cache_gb": 0.5,
    }
    assert servers.flags(arguments) == [
        *("--model", "m", "--limit-mm-per-prompt", '{"image": 7}', "--enforce-eager"),
        *("--no-enable-prefix-caching", "--mm-processor-cache-gb", "0.5"),
    ]


def test_both_servers_have_the_profile_and_vllms_has_all_its_arguments() -> None:
    profile = load_profile("demo")
    assert servers.command("ours", "demo", 1)[-2:] == ["--profile", "demo"]
    theirs = servers.command("vllm", "demo", 1)
    for flag in servers.flags(engine_arguments(profile, 7)):
        assert flag in theirs


def test_no_setting_of_ours_or_vllms_reaches_the_servers_from_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_MAX_RUNNING", "1")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "9")
    environment = servers.environment(load_profile("demo"))
    assert "GATEWAY_MAX_RUNNING" not in environment
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_a_sample_belongs_to_the_stage_of_its_innermost_known_frame() -> None:
    stacks = [
        "run (uvicorn/server.py);loads (gateway/schema/validation.py) 30",
        "run (uvicorn/server.py);work (images/loader.py);_resize (images/fit.py);resize (x.py) 60",
        "main (y.py) 10",
    ]
    assert stages.read(stacks) == {"fit": 0.6, "parse": 0.3, "other": 0.1}


def measured(**changed: Any) -> Measured:
    plain: dict[str, Any] = {
        "figures": {"requests_per_s": 2.0},
        "seconds": 5.0,
        "requests": 10,
        "failures": (),
        "right": 1.0,
        "completion_tokens": (16, 16),
        "prompt_tokens": 100,
        "client_share": 0.1,
    }
    return Measured(**plain | changed)


def test_nothing_speaks_against_a_clean_run() -> None:
    results = report.Results("demo", True, {"jpeg-336": [measured()]}, {"jpeg-336": [measured()]})
    assert report.doubts(results) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"client_share": 1000.0}, "jpeg-336, ours, round 1: the client took 100000% of a core"),
        ({"right": 0.5}, "jpeg-336, ours, round 1: 50% of the answers are right"),
        ({"failures": ("503: x",)}, "jpeg-336, ours, round 1: 1 of 10 failed: 503: x"),
        (
            {"completion_tokens": (15, 16)},
            "jpeg-336: the answers differ in length (tokens, least and most): [(15, 16), (16, 16)]",
        ),
        ({"prompt_tokens": 99}, "jpeg-336: the prompts differ in length (tokens of all): [99, 100]"),
    ],
)
def test_what_speaks_against_a_figure_is_told(changed: dict[str, Any], told: str) -> None:
    ours = {"jpeg-336": [measured(**changed)]}
    assert report.doubts(report.Results("demo", True, ours, {"jpeg-336": [measured()]})) == [told]


def test_the_report_has_its_table_its_json_and_its_chart(tmp_path: Path) -> None:
    ours = {"jpeg-336": [measured(figures={"requests_per_s": 4.0})]}
    results = report.Results("demo", True, ours, {"jpeg-336": [measured()]})
    out = io.StringIO()
    report.show(results, Console(file=out, width=160))
    report.write(results, tmp_path)
    assert "2.00" in out.getvalue()
    assert orjson.loads((tmp_path / "bench.json").read_bytes())["outcomes"][0]["ratio"] == 2.0
    with Image.open(tmp_path / "bench.png") as image:
        assert image.format == "PNG"


def test_growth_is_taken_from_a_thousand_requests_on() -> None:
    sizes = [100.0] * 9 + [200.0] * 20 + [210.0] * 5
    samples = [soak.Sample(100 * (at + 1), 0.0, size, 0.0) for at, size in enumerate(sizes)]
    assert soak.growth(samples) == pytest.approx(0.05)
