"""What every request gets: an id, a line in the log, metrics, and an answer to any error."""

import re
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.responses import ClientLeft, error_response
from gateway.errors import GatewayError, InvalidValue, MethodNotAllowed, NotFound
from gateway.metrics import Metrics
from gateway.schema.validation import short

SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CLIENT_LEFT = 499  # nginx's status for it, in metrics and logs only: nobody is there to read it

log = structlog.get_logger()


class Edge:
    """The outermost middleware. Pure ASGI: it neither buffers bodies nor adds tasks."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        try:
            await self._app(scope, receive, exchange.send)
        except ClientLeft:
            exchange.status = CLIENT_LEFT
        except Exception:
            log.exception("request_failed", request_id=exchange.id)
            if exchange.status:
                raise  # the server closes the connection, so that the client does not take half for whole
            await error_response(GatewayError("an error of the gateway's own; it is in its log"))(
                scope, receive, exchange.send
            )
        finally:
            self._finish(scope, exchange)

    def _finish(self, scope: Scope, exchange: "Exchange") -> None:
        seconds = time.perf_counter() - exchange.began
        # A path that nobody asked us to serve must not become a label: there is no end of them.
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(route, str(exchange.status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        level = "debug" if route in QUIET else "info"
        getattr(log, level)(
            "request",
            request_id=exchange.id,
            method=scope["method"],
            route=route,
            status=exchange.status,
            seconds=round(seconds, 4),
            **scope.get("state", {}).get("facts", {}),
        )


QUIET = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})  # asked for every few seconds


class Exchange:
    """One request and what was answered."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.began = time.perf_counter()
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        self.id = asked if SANE_ID.fullmatch(asked) else f"req_{uuid4().hex}"
        self.status = 0
        self._expects = "expect" in headers
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            headers["x-request-id"] = self.id
            headers["openai-processing-ms"] = str(round((time.perf_counter() - self.began) * 1000))
            if self._expects and self.status >= HTTPStatus.BAD_REQUEST:
                # The client may now send the body that it held back, or its next request in the body's place:
                # nobody can tell which (RFC 9110, 10.1.1).
                headers["connection"] = "close"
        await self._send(message)


def answer_errors(app: FastAPI) -> None:
    """Give every error that can leave `app` OpenAI's shape."""
    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
        GatewayError: _gateway_error,
        HTTPException: _http_exception,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _gateway_error(_: Request, error: GatewayError) -> Response:
    return error_response(error)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    # Not `request.url`, which is made of the Host header, whatever that holds.
    where = f"{request.method} {short(request.scope['path'])}"
    if error.status_code == MethodNotAllowed.status:
        response = error_response(MethodNotAllowed(f"{where}: this path has other methods"))
        response.headers.update(error.headers or {})
        return response
    if error.status_code == NotFound.status:
        return error_response(NotFound(f"{where}: there is no such path"))
    return error_response(InvalidValue(str(error.detail)))
