"""A proxy in front of the gateway that keeps what a frontend sent and what it was answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web

_FORWARDED = ("authorization", "content-type")


@dataclass(slots=True)
class Exchange:
    """One chat request and its answer, as far as it was sent."""

    request: dict[str, Any]
    status: int = 0
    answer: bytes = b""
    whole: bool = False

    @property
    def text(self) -> str:
        """The words of the answer, put together if it was streamed."""
        if not self.request.get("stream"):
            content: str | None = orjson.loads(self.answer)["choices"][0]["message"]["content"]
            return content or ""
        lines = (line.removeprefix(b"data: ") for line in self.answer.splitlines())
        chunks = [orjson.loads(line) for line in lines if line.startswith(b"{")]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
        return "".join(delta.get("content") or "" for delta in deltas)


@dataclass(slots=True)
class Recorder:
    """What went through the proxy at `api`; `fields` are set in every streamed request."""

    upstream: str
    api: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        return all(one.whole for one in self.exchanges)

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kept = Exchange(orjson.loads(body) if body else {})
        if request.path.endswith("/chat/completions"):
            self.exchanges.append(kept)
            if kept.request.get("stream"):
                body = orjson.dumps({**kept.request, **self.fields})
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, self.upstream + request.path, data=body, headers=headers) as said,
        ):
            kept.status = said.status
            response = web.StreamResponse(status=said.status)
            response.content_type = said.content_type
            await response.prepare(request)
            async for piece in said.content.iter_any():
                kept.answer += piece
                await response.write(piece)
            await response.write_eof()
            kept.whole = True
        return response


@asynccontextmanager
async def recording(upstream: str) -> AsyncIterator[Recorder]:
    """Run the proxy in front of the gateway at `upstream`."""
    recorder = Recorder(upstream)
    application = web.Application(client_max_size=64 << 20)
    application.router.add_route("*", "/{path:.*}", recorder.pass_on)
    # A client that leaves cancels its request here, and so the one to the gateway.
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    recorder.api = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield recorder
    finally:
        await runner.cleanup()
