"""Every way in which a request can end is told from the others."""

import asyncio
import socket
import struct

import orjson

from tests.each import each
from tools.chaos.load import CALLERS, Tally, session
from tools.chaos.outcomes import ANSWERED, CUT, FAILED, HUNG, LOST, REFUSED, RESET, WRONG, Ask, Ended, ask
from tools.chaos.report import Row
from tools.chaos.stand import Peak

ERROR = orjson.dumps({"error": {"message": "m", "type": "server_error", "param": None, "code": "c"}})
WHOLE = orjson.dumps(
    {
        "choices": [{"message": {"content": " red"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
)
CHUNK = (
    b'data: {"choices": [{"delta": {"content": " red"}}], '
    b'"usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def answer(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def stream(*events: bytes) -> bytes:
    return answer(200, b"".join(events), "content-type: text/event-stream")


async def outcome_of(sent: bytes | None, *, reset: bool = False, wanted: str = "red") -> str:
    """Return the outcome where a server sends these bytes and closes; None means that it says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if sent is None:
            await reader.read()
        else:
            writer.write(sent)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, session(url, "sk") as client:
        return (await ask(client, Ask(b"{}", wanted, 2), 0.5)).outcome


@each(
    ("sent", "outcome"),
    [
        (answer(200, WHOLE), ANSWERED),
        (stream(CHUNK, DONE), ANSWERED),
        (answer(503, ERROR, "retry-after: 1"), REFUSED),
        (answer(503, ERROR), FAILED),
        (answer(400, ERROR), FAILED),
        (stream(CHUNK, b"data: " + ERROR + b"\n\n"), FAILED),
        (answer(503, b"<html>", "retry-after: 1"), LOST),
        (b"", LOST),
        (stream(CHUNK), CUT),
        (answer(200, WHOLE, length=1000), CUT),
        (None, HUNG),
    ],
)
async def test_an_answer_has_its_outcome(sent: bytes | None, outcome: str) -> None:
    assert await outcome_of(sent) == outcome


async def test_another_answer_or_another_length_is_wrong() -> None:
    assert await outcome_of(answer(200, WHOLE), wanted="blue") == WRONG
    assert await outcome_of(answer(200, WHOLE.replace(b":2}", b":1}"))) == WRONG


async def test_a_reset_connection_is_told_from_a_cut_answer() -> None:
    assert await outcome_of(b"", reset=True) == RESET


def row(*outcomes: str, excused: tuple[str, ...] = ()) -> Row:
    tally = Tally()
    for outcome in outcomes:
        tally.add(Ended(outcome, 0.0, 1.0))
    return Row("fault", tally, Tally(), Peak(), "", excused)


def test_what_is_not_allowed_to_happen_breaks_the_promise() -> None:
    assert row(ANSWERED, REFUSED, FAILED).broken == []
    assert row(ANSWERED, CUT, HUNG).broken == ["fault: 1 cut", "fault: 1 hung"]
    assert row(ANSWERED, CUT, HUNG, excused=(CUT,)).broken == ["fault: 1 hung"]
    assert row(ANSWERED, *[CUT] * CALLERS, excused=(CUT,)).broken == []
    assert row(ANSWERED, *[CUT] * (CALLERS + 1), excused=(CUT,)).broken == [f"fault: {CALLERS + 1} cut"]
    assert row(REFUSED).broken == ["fault: nothing was answered"]


def test_a_fault_that_is_not_recovered_from_breaks_the_promise() -> None:
    struck = row(ANSWERED)
    struck.honest.hit = 2.0
    assert struck.broken == ["fault: not recovered"]
    struck.honest.add(Ended(ANSWERED, 3.0, 4.5))
    assert (struck.broken, struck.honest.recovered) == ([], 2.5)
