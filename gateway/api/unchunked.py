"""Answers of unknown length for HTTP/1.0, which knows no chunks: they end with the connection."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


def unchunked(app: ASGIApp, cycle: Any) -> ASGIApp:
    """Return `app`, with answers that uvicorn's `cycle` does not send in chunks. RFC 9112, 6.1 and 6.3."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        unknown = False

        async def plain(message: Message) -> None:
            nonlocal unknown
            if message["type"] == "http.response.start":
                unknown = all(name.lower() != b"content-length" for name, _ in message["headers"])
                if unknown:
                    cycle.chunked_encoding = False
            elif unknown:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, plain)

    return answer
