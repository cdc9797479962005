"""A name that resolves differently the second time, asked over HTTP; the test is the resolver."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.hostile.cases import Case, holds, of_url
from tests.hostile.test_origins import PICTURE, ok
from tests.scripted_engine import ScriptedEngine
from tests.servers import free_port, scripted_gateway

NAME = "rebinding.example"
OPEN, SECRET = "127.0.0.2", "127.0.0.1"  # the setting allows the first; nothing may connect to the second
RESOLVE = socket.getaddrinfo


class Names:
    """Answers for NAME with one list of addresses after the other, the last one for ever."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host != NAME:
            return RESOLVE(host, port, *rest, **options)
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answer]


class Host:
    """Two servers on one port: the open one sends `said`; the secret one counts who connects."""

    def __init__(self) -> None:
        self.port = 0
        self.said = b""
        self.intruders = 0

    async def open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.said)
        writer.close()

    async def secret(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.intruders += 1
        writer.write(ok(PICTURE))
        writer.close()


@asynccontextmanager
async def hosts() -> AsyncIterator[Host]:
    host = Host()
    host.port = free_port()
    async with (
        await asyncio.start_server(host.secret, SECRET, host.port),
        await asyncio.start_server(host.open, OPEN, host.port),
    ):
        yield host


@pytest.mark.parametrize(
    ("answers", "redirected", "code", "lookups"),
    [
        # What was checked is what is connected to: there is no second look-up to answer differently.
        ([(OPEN,), (SECRET,)], False, None, 1),
        ([(SECRET,), (OPEN,)], False, "image_fetch_failed", 1),
        # A redirect to the same name is looked up, and checked, again.
        ([(OPEN,), (SECRET,)], True, "image_fetch_failed", 2),
        # Of several addresses the forbidden one is never tried, wherever it stands.
        ([(SECRET, OPEN)], False, None, 1),
        ([(OPEN, SECRET)], False, None, 1),
    ],
    ids=["later", "first", "after a redirect", "before another", "after another"],
)
async def test_a_name_that_changes_leads_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
    answers: list[tuple[str, ...]],
    redirected: bool,  # a column of the table
    code: str | None,
    lookups: int,
) -> None:
    names = Names(*answers)
    monkeypatch.setattr(socket, "getaddrinfo", names)
    async with (
        hosts() as host,
        scripted_gateway(ScriptedEngine(), fetch_allow=(f"{OPEN}/32",), fetch_timeout=5) as gateway,
    ):
        url = f"http://{NAME}:{host.port}/x.png"
        moved = f"HTTP/1.1 302 Found\r\nlocation: {url}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        host.said = moved.encode() if redirected else ok(PICTURE)
        await holds(gateway, Case("rebinding", of_url(url), code))
    assert names.asked == lookups
    assert host.intruders == 0
