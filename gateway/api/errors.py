"""From an exception to OpenAI's error object."""

from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from gateway.api import paths
from gateway.errors import (
    BodyTimeout,
    GatewayError,
    InvalidAPIKey,
    InvalidValue,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    Unavailable,
    UnsupportedEndpoint,
)
from gateway.schema.paths import short
from gateway.telemetry import request_log


def error_body(error: GatewayError) -> bytes:
    """Return OpenAI's error object, with all four of its keys."""
    return orjson.dumps({"error": error.error_object})


def error_response(error: GatewayError) -> Response:
    """Return `error` as a response; one to be tried again has `retry-after` (s) and `retry-after-ms`.

    The request's trail keeps it, for the log and the metrics.
    """
    request_log.current().answered(error)
    headers = {}
    if isinstance(error, Unavailable | RateLimited):
        headers["retry-after"] = str(ceil(error.retry_after))
        headers["retry-after-ms"] = str(ceil(error.retry_after * 1000))
    if isinstance(error, RateLimited):
        headers |= error.headers
    if isinstance(error, InvalidAPIKey):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, BodyTimeout):
        # The rest of the body may come at any time, or never (RFC 9110, 15.5.9).
        headers["connection"] = "close"
    return Response(error_body(error), error.status, headers, "application/json")


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
    # Not `request.url`: it is built from the Host header, which a client can set to anything.
    path = request.scope["path"]
    where = f"{request.method} {short(path)}"
    if error.status_code == MethodNotAllowed.status:
        if paths.is_unsupported_method(request.method, path):
            return error_response(_unsupported(where))
        methods = ", ".join(paths.allowed(request.app.routes, request.scope))
        response = error_response(MethodNotAllowed(f"{where}: method not allowed; allowed: {methods}"))
        response.headers["allow"] = methods
        return response
    if error.status_code == NotFound.status:
        if paths.is_unsupported(path):
            return error_response(_unsupported(where))
        return error_response(NotFound(f"{where}: there is no such path; {paths.where_the_api_is(path)}"))
    return error_response(InvalidValue(str(error.detail)))


def _unsupported(where: str) -> UnsupportedEndpoint:
    return UnsupportedEndpoint(f"{where}: this endpoint is not served here")
