"""The tree of errors. Each class knows its HTTP status, OpenAI error type and code.

GatewayError                     500  server_error           internal_error
├── RequestError                 400  invalid_request_error  invalid_request
│   ├── BadHTTP                  400                         invalid_http
│   ├── InvalidJSON              400                         invalid_json
│   ├── InvalidValue             400                         invalid_value
│   ├── MissingParameter         400                         missing_required_parameter
│   ├── UnknownParameter         400                         unknown_parameter
│   ├── UnsupportedParameter     400                         unsupported_parameter
│   ├── UnsupportedEndpoint      400                         unsupported_endpoint
│   ├── ContextLengthExceeded    400                         context_length_exceeded
│   ├── ImageError               400                         invalid_image
│   │   ├── ImageTooLarge        400                         image_too_large
│   │   ├── TooManyImages        400                         too_many_images
│   │   ├── UnsupportedImage     400                         unsupported_image_format
│   │   └── ImageFetchFailed     400                         image_fetch_failed
│   ├── PreviousResponseNotFound 400                         previous_response_not_found
│   ├── PoisonRequest            400                         poison_request
│   ├── InvalidAPIKey            401                         invalid_api_key
│   ├── HostNotAllowed           403                         host_not_allowed
│   ├── OriginNotAllowed         403                         origin_not_allowed
│   ├── ModelNotFound            404                         model_not_found
│   ├── NotFound                 404                         not_found
│   ├── MethodNotAllowed         405                         method_not_allowed
│   ├── BodyTimeout              408                         request_timeout
│   ├── HeaderTimeout            408                         header_timeout
│   ├── BodyTooLarge             413                         request_too_large
│   ├── UnsupportedMediaType     415                         unsupported_media_type
│   ├── RateLimited              429  rate_limit_error       rate_limit_exceeded
│   └── HeadersTooLarge          431                         headers_too_large
├── GenerationFailed             500  server_error           generation_failed
├── EngineStalled                504  server_error           engine_stalled
├── DeadlineExceeded             504  server_error           deadline_exceeded
├── StorageFull                  507  server_error           storage_full
│   └── StorageQuotaExceeded     507                         storage_quota_exceeded
└── Unavailable                  503  server_error           unavailable
    ├── Overloaded               503                         overloaded
    ├── EngineNotReady           503                         engine_not_ready
    ├── EngineDied               503                         engine_died
    ├── ShuttingDown             503                         shutting_down
    └── StorageUnavailable       503                         storage_unavailable
"""

from collections.abc import Iterator
from typing import Any, ClassVar


class GatewayError(Exception):
    """An unexpected error; the gateway's log has the traceback."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    clients_own = False  # whether the cause is a limit that the client set itself, or its quota

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def error_object(self) -> dict[str, Any]:
        """OpenAI's error object, with all four of its keys."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class RequestError(GatewayError):
    """The request is wrong; sending it again unchanged will fail again."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class BadHTTP(RequestError):
    """The request line, a header or the framing of the body is not valid HTTP."""

    code = "invalid_http"


class InvalidJSON(RequestError):
    """The body is not valid JSON in UTF-8, or is nested too deeply."""

    code = "invalid_json"


class InvalidValue(RequestError):
    """A field has a value that is not allowed; the message names the field and the limit."""

    code = "invalid_value"


class MissingParameter(RequestError):
    """A required field is missing."""

    code = "missing_required_parameter"


class UnknownParameter(RequestError):
    """The request has a field that the API does not have. Check its spelling."""

    code = "unknown_parameter"


class UnsupportedParameter(RequestError):
    """The field exists in the API, but this gateway does not support it or this value of it."""

    code = "unsupported_parameter"


class UnsupportedEndpoint(RequestError):
    """The endpoint exists in OpenAI's API, but is not served here."""

    code = "unsupported_endpoint"


class ContextLengthExceeded(RequestError):
    """Prompt and images do not fit into the model's context. Shorten the conversation."""

    code = "context_length_exceeded"

    def __init__(self, message: str, *, context_length: int, param: str) -> None:
        # LiteLLM (`context_window_fallbacks`), LangChain and Cline search for these words, and then shorten
        # the conversation or try another model.
        words = f"This model's maximum context length is {context_length} tokens."
        super().__init__(f"{words} {message}", param=param)


class ImageError(RequestError):
    """An image cannot be decoded."""

    code = "invalid_image"


class ImageTooLarge(ImageError):
    """An image is over the limit in bytes or pixels. Send a smaller one."""

    code = "image_too_large"


class TooManyImages(ImageError):
    """The request has more images than are allowed."""

    code = "too_many_images"


class UnsupportedImage(ImageError):
    """The format is not JPEG, PNG, WebP, GIF, BMP, HEIC, TIFF or still AVIF."""

    code = "unsupported_image_format"


class ImageFetchFailed(ImageError):
    """An image could not be fetched from its URL, or its address is not allowed."""

    code = "image_fetch_failed"


class PreviousResponseNotFound(RequestError):
    """`previous_response_id` names no stored response of this caller."""

    code = "previous_response_not_found"


class PoisonRequest(RequestError):
    """The request crashed the engine twice, or the gateway three times in a batch, and is not run again."""

    code = "poison_request"


class InvalidAPIKey(RequestError):
    """The API key is missing or wrong."""

    status = 401
    code = "invalid_api_key"


class HostNotAllowed(RequestError):
    """The `Host` header names a host that is not allowed; see `GATEWAY_ALLOWED_HOSTS`."""

    status = 403
    code = "host_not_allowed"


class OriginNotAllowed(RequestError):
    """A web page of another origin sent the request; see `GATEWAY_CORS_ORIGINS`."""

    status = 403
    code = "origin_not_allowed"


class ModelNotFound(RequestError):
    """The model is not served here; `GET /v1/models` lists those that are."""

    status = 404
    code = "model_not_found"


class NotFound(RequestError):
    """There is no such path, file, batch or response."""

    status = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    """The path does not allow this method; the `Allow` header lists those that it does."""

    status = 405
    code = "method_not_allowed"


class BodyTimeout(RequestError):
    """The request body was not received in time."""

    status = 408
    code = "request_timeout"


class HeaderTimeout(RequestError):
    """The request headers were not received in time."""

    status = 408
    code = "header_timeout"


class BodyTooLarge(RequestError):
    """The request body is over the limit."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(RequestError):
    """The `Content-Type` or `Content-Encoding` is not supported."""

    status = 415
    code = "unsupported_media_type"


class RateLimited(RequestError):
    """The caller has used up a limit. Send the request again after `Retry-After` seconds."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.headers: dict[str, str] = {}  # `x-ratelimit-…` of the caller


class HeadersTooLarge(RequestError):
    """The request line and headers are over the limit."""

    status = 431
    code = "headers_too_large"


class GenerationFailed(GatewayError):
    """The engine failed on this request."""

    code = "generation_failed"


class EngineStalled(GatewayError):
    """The engine produced no output for too long."""

    status = 504
    code = "engine_stalled"


class DeadlineExceeded(GatewayError):
    """The answer was not finished within the time limit, or within the client's own timeout."""

    status = 504
    code = "deadline_exceeded"


class StorageFull(GatewayError):
    """The storage has reached its limit, or the disk is full."""

    status = 507
    code = "storage_full"


class StorageQuotaExceeded(StorageFull):
    """The caller's stored data has reached the limit per caller."""

    clients_own = True
    code = "storage_quota_exceeded"


class Unavailable(GatewayError):
    """The gateway cannot answer now. Send the request again after `Retry-After` seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """The queue is full, or the request waited in it for too long."""

    code = "overloaded"


class EngineNotReady(Unavailable):
    """The engine is still starting, or is being restarted."""

    code = "engine_not_ready"


class EngineDied(Unavailable):
    """The engine died while the request ran."""

    code = "engine_died"


class ShuttingDown(Unavailable):
    """The gateway is shutting down."""

    code = "shutting_down"


class StorageUnavailable(Unavailable):
    """The state directory cannot be used; requests that need no storage still work."""

    code = "storage_unavailable"


def page() -> str:
    """Return docs/errors.md: every error with its status, code, type and meaning."""
    lines = [
        "# Errors",
        "",
        "Every error is OpenAI's error object with all four keys: `message`, `type`, `param`, `code`.",
        "`param` names the field that is wrong, if there is one. `llava-gateway errors` writes this page.",
        "",
        "A 429 and every 503 have `Retry-After`; OpenAI's clients retry them by themselves. Before the first",
        "token an error is an HTTP status. After it, a chat stream ends with an error event and no `[DONE]`.",
        "",
        "| status | code | type | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for kind in sorted(_all(GatewayError), key=lambda kind: kind.status):
        meaning = (kind.__doc__ or "").replace("\n", " ")
        lines.append(f"| {kind.status} | `{kind.code}` | `{kind.type}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _all(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """Yield `kind` and its subclasses in this module."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == __name__:
            yield from _all(child)
