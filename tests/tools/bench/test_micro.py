"""What the gateway's own code costs a request and a token: `make bench-micro` measures it."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pybase64
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import Message as ASGIMessage
from starlette.types import Receive, Scope, Send
from tokenizers import Tokenizer, models, pre_tokenizers

from gateway.access.admission import Admission
from gateway.access.callers import Caller, Callers
from gateway.access.keys import CallerClass
from gateway.access.limits import Limits
from gateway.access.memory_budgets import MemoryBudgets
from gateway.answering.deadlines import RunningRequests
from gateway.answering.lifecycle import Lifecycle
from gateway.api.browsers import BrowserGuard
from gateway.api.middleware import RequestMiddleware
from gateway.engine.interface import Delta, Model, Sampling
from gateway.engine.vocabulary import TokenizerFile
from gateway.generation import responses
from gateway.generation.reply import Reply
from gateway.generation.response_events import ResponseEvents
from gateway.images.loader import PictureLoader
from gateway.images.source import parse as parse_source
from gateway.prompt.styles import CARD
from gateway.prompt.template import SLOT, PromptMessage, render
from gateway.prompt.tokens import encode
from gateway.schema.chat_answer import Chunk
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.responses_request import ResponseRequest
from gateway.schema.sse import ChunkWriter
from gateway.schema.validation import parse
from gateway.settings import Settings
from gateway.telemetry import request_log
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracing, close
from tests.scripted_engine import MODEL
from tools.bench.pictures import photograph_jpeg

Benchmark = Callable[..., Any]
QUESTION = "What is in the picture? Please answer in one sentence."


def body_with_picture(size: int) -> bytes:
    """Return a chat request whose picture has `size` bytes before base64."""
    url = "data:image/jpeg;base64," + pybase64.b64encode(bytes(size)).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": parts}], "temperature": 0})


def vocabulary() -> TokenizerFile:
    """Return a vocabulary of single bytes: a prompt's cost without a learned one's help."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return TokenizerFile(tokenizer)


@pytest.mark.parametrize("size", [0, 3 * 2**20], ids=["small", "4 MB of base64"])
def test_parsing_a_body(benchmark: Benchmark, size: int) -> None:
    request = benchmark(parse, body_with_picture(size), ChatCompletionRequest)
    assert request.messages[0].content[1].text == QUESTION


def test_writing_a_chunk(benchmark: Benchmark) -> None:
    writer = ChunkWriter("chatcmpl-0", 0, "m", "fp_0", usage_follows=True)
    event = benchmark(writer.chunk, Chunk(0, " circle"))
    assert orjson.loads(event.removeprefix(b"data: "))["choices"][0]["delta"] == {"content": " circle"}


def test_writing_a_text_delta_of_a_response(benchmark: Benchmark) -> None:
    request = parse(orjson.dumps({"model": "m", "input": "x"}), ResponseRequest)
    told = ResponseEvents(responses.started(request, "resp_0", 0, "m", Sampling(max_tokens=9), stored=False))
    list(told.chunk(Chunk(0, "A", opens=True)))
    event = benchmark(told.more_text, Chunk(0, " circle"))
    assert orjson.loads(event.split(b"data: ")[1])["delta"] == " circle"


def test_a_delta_becomes_a_chunk(benchmark: Benchmark) -> None:
    reply = Reply()
    reply.chunk(Delta(0, " A", 1, 80))
    assert benchmark(reply.chunk, Delta(0, " circle", 1, 80)) == Chunk(0, " circle")


def test_rendering_and_encoding_a_prompt(benchmark: Benchmark) -> None:
    turns = [
        PromptMessage("system", ("You are a helpful assistant.",)),
        PromptMessage("user", (SLOT, QUESTION)),
        PromptMessage("assistant", ("A red circle.",)),
        PromptMessage("user", (QUESTION,)),
    ]
    model = Model(**{name: getattr(MODEL, name) for name in Model.__slots__} | {"vocabulary": vocabulary()})
    ids = benchmark(lambda: encode(render(turns, CARD), model))
    assert ids.count(MODEL.image_token) == 1


@pytest.mark.parametrize(
    ("width", "height"), [(336, 336), (1600, 1200), pytest.param(4000, 3000, marks=pytest.mark.slow)]
)
def test_loading_a_picture(benchmark: Benchmark, width: int, height: int) -> None:
    settings = Settings.model_validate({"image_cache_bytes": 0})
    source = parse_source(
        "data:image/jpeg;base64," + pybase64.b64encode(photograph_jpeg("micro", width, height).data).decode(),
        param="url",
        max_bytes=settings.image_max_bytes,
    )
    with asyncio.Runner() as runner:
        metrics, anyone = Metrics(), Caller("anyone", "", CallerClass())
        loader = PictureLoader(settings, metrics, MemoryBudgets(settings, metrics))

        def load() -> Any:
            loading = loader.load(source, param="url", side=336, fit="pad", scope="", caller=anyone)
            return runner.run(loading)

        picture = benchmark(load)
        runner.run(loader.close())
    assert picture.pixels.size == (336, 336)


@pytest.mark.parametrize("traced", [False, True], ids=["tracing off", "tracing on"])
def test_the_edge_of_a_request(benchmark: Benchmark, traced: bool) -> None:
    """A request through the edge alone, with the steps of one that has a picture."""
    spans = Tracing([InMemorySpanExporter()], {}) if traced else None
    settings, metrics = Settings(), Metrics()
    edge = RequestMiddleware(
        _answers,
        metrics,
        Lifecycle(),
        Callers(settings),
        frozenset({"/"}),
        guard=BrowserGuard(settings, keyed=False),
        running=RunningRequests(settings, metrics),
        tracing=spans,
    )
    with asyncio.Runner() as runner:

        async def sent() -> int:
            statuses: list[int] = []

            async def send(message: ASGIMessage) -> None:
                statuses.append(message.get("status", 0))

            scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "state": {}}
            await edge(scope, _nothing, send)
            return statuses[0]

        assert benchmark(lambda: runner.run(sent())) == 200
        runner.run(close(spans))


async def _answers(_scope: Scope, _receive: Receive, send: Send) -> None:
    path = request_log.current()
    for step in request_log.STEPS:
        path.add(step, 0.001)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _nothing() -> ASGIMessage:
    return {"type": "http.request"}


def test_telling_a_caller_by_its_key(benchmark: Benchmark) -> None:
    settings = Settings.model_validate({"api_keys": ",".join(f"name-{at}:key-{at}" for at in range(1000))})
    callers, headers = Callers(settings), {"authorization": "Bearer key-500"}
    assert benchmark(callers.identify, headers, "127.0.0.1").name == "name-500"


def test_limits_of_a_request(benchmark: Benchmark) -> None:
    settings, plenty = Settings(), 10**9
    caller_class = CallerClass(requests_per_minute=plenty, tokens_per_minute=plenty, images_per_minute=plenty)
    limits, caller = Limits(settings, Metrics()), Caller("ann", "", caller_class)

    async def request() -> dict[str, str]:
        headers = await limits.request(caller)
        reserved = await limits.reserve(caller, 600, 1, 256)
        await limits.settle(caller, reserved.tokens, 600, 100)
        return headers

    with asyncio.Runner() as runner:
        headers = benchmark(lambda: runner.run(request()))
    assert headers["x-ratelimit-limit-requests"] == str(plenty)


def test_admission_of_a_request(benchmark: Benchmark) -> None:
    admission, caller = Admission(Settings(), Metrics(), 40), Caller("ann", "", CallerClass())

    async def request() -> int:
        async with admission.queue_permit(caller), admission.engine_permits(caller, 1, 100) as priority:
            return priority

    with asyncio.Runner() as runner:
        assert benchmark(lambda: runner.run(request())) == 0
