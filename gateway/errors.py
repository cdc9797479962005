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
└── Unavailable                  503  server_error           unavailable
    ├── Overloaded               503                         overloaded
    ├── EngineNotReady           503                         engine_not_ready
    ├── EngineDied               503                         engine_died
    ├── ShuttingDown             503                         shutting_down
    └── StorageUnavailable       503                         storage_unavailable
"""

from typing import Any, ClassVar


class GatewayError(Exception):
    """What a client is told when a request ends badly, and which parameter is to blame."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def told(self) -> dict[str, Any]:
        """OpenAI's error object, with all four of its keys."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class RequestError(GatewayError):
    """The client can mend it."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class BadHTTP(RequestError):
    code = "invalid_http"


class InvalidJSON(RequestError):
    code = "invalid_json"


class InvalidValue(RequestError):
    code = "invalid_value"


class MissingParameter(RequestError):
    code = "missing_required_parameter"


class UnknownParameter(RequestError):
    code = "unknown_parameter"


class UnsupportedParameter(RequestError):
    code = "unsupported_parameter"


class UnsupportedEndpoint(RequestError):
    code = "unsupported_endpoint"


class ContextLengthExceeded(RequestError):
    code = "context_length_exceeded"


class ImageError(RequestError):
    code = "invalid_image"


class ImageTooLarge(ImageError):
    code = "image_too_large"


class TooManyImages(ImageError):
    code = "too_many_images"


class UnsupportedImage(ImageError):
    code = "unsupported_image_format"


class ImageFetchFailed(ImageError):
    code = "image_fetch_failed"


class PreviousResponseNotFound(RequestError):
    code = "previous_response_not_found"


class PoisonRequest(RequestError):
    code = "poison_request"


class InvalidAPIKey(RequestError):
    status = 401
    code = "invalid_api_key"


class ModelNotFound(RequestError):
    status = 404
    code = "model_not_found"


class NotFound(RequestError):
    status = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"


class BodyTimeout(RequestError):
    status = 408
    code = "request_timeout"


class HeaderTimeout(RequestError):
    status = 408
    code = "header_timeout"


class BodyTooLarge(RequestError):
    status = 413
    code = "request_too_large"


class UnsupportedMediaType(RequestError):
    status = 415
    code = "unsupported_media_type"


class RateLimited(RequestError):
    """The caller has used up a limit; `retry_after` seconds later there is room again."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HeadersTooLarge(RequestError):
    status = 431
    code = "headers_too_large"


class GenerationFailed(GatewayError):
    code = "generation_failed"


class EngineStalled(GatewayError):
    status = 504
    code = "engine_stalled"


class DeadlineExceeded(GatewayError):
    status = 504
    code = "deadline_exceeded"


class StorageFull(GatewayError):
    """What is stored has reached its limit, or the disk is full."""

    status = 507
    code = "storage_full"


class Unavailable(GatewayError):
    """Nothing is wrong with the request: it may be sent again after `retry_after` seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    code = "overloaded"


class EngineNotReady(Unavailable):
    code = "engine_not_ready"


class EngineDied(Unavailable):
    code = "engine_died"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class StorageUnavailable(Unavailable):
    """The state directory cannot be used; requests that store nothing are not concerned."""

    code = "storage_unavailable"
