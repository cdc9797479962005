"""What each route takes and gives, for the description of the API. A test finds a route that is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.schema.batches import Batch, BatchCreate
from gateway.schema.chat_answer import Completion
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.chunk_models import CompletionChunk, TextCompletionChunk
from gateway.schema.completions import CompletionRequest, TextCompletion
from gateway.schema.files import FileDeleted, FileObject, UploadForm
from gateway.schema.models import ModelCard, ModelList
from gateway.schema.render import Rendered, RenderRequest
from gateway.schema.responses_answer import Event, Response
from gateway.schema.responses_request import ResponseRequest
from gateway.schema.tokens import Detokenize, Detokenized, TokenizeChat, Tokenized, TokenizeText

TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"

# Statuses with an error object, which docs/errors name; every route has the first.
EVERY: Final = (401, 403, 408, 429, 431, 500, 503)
BODY: Final = (400, 413, 415)
ENGINE: Final = (*BODY, 404, 504)
STORAGE: Final = (400, 404, 507)


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `answer` is the type of its JSON, or its media type where it gives none."""

    summary: str
    answer: Any
    errors: tuple[int, ...] = ()
    body: Any = None
    form: Any = None
    events: Any = None  # the type of what a stream's events hold
    query: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    others: Mapping[int, str] = field(default_factory=dict)  # statuses whose JSON is no error object


_STATE: Final = dict[str, Any]
_ORDER: Final = {"type": "string", "enum": ["asc", "desc"]}
_STRING: Final = {"type": "string"}
_HEALTH: Final = {503: "The gateway is starting or shutting down."}


def _limit(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": most}


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/chat/completions"): Operation(
        "Answer a conversation with pictures",
        Completion,
        ENGINE,
        ChatCompletionRequest,
        events=CompletionChunk,
    ),
    ("POST", "/v1/responses"): Operation(
        "Answer, and keep the conversation", Response, (*ENGINE, 507), ResponseRequest, events=Event
    ),
    ("POST", "/v1/responses/input_tokens"): Operation(
        "Count the tokens that a response's input has", _STATE, ENGINE, ResponseRequest
    ),
    ("POST", "/v1/responses/compact"): Operation("Not served", _STATE, (400,)),
    ("GET", "/v1/responses/{response_id}"): Operation(
        "A stored response",
        _STATE,
        STORAGE,
        query={"include": {"type": "array", "items": _STRING}, "stream": {"type": "string"}},
    ),
    ("DELETE", "/v1/responses/{response_id}"): Operation("Delete a stored response", _STATE, STORAGE),
    ("POST", "/v1/responses/{response_id}/cancel"): Operation("Not served", _STATE, STORAGE),
    ("GET", "/v1/responses/{response_id}/input_items"): Operation(
        "The items of a stored conversation",
        _STATE,
        STORAGE,
        query={
            "after": _STRING,
            "include": {"type": "array", "items": _STRING},
            "limit": _limit(100),
            "order": _ORDER,
        },
    ),
    ("POST", "/v1/completions"): Operation(
        "Continue a text", TextCompletion, ENGINE, CompletionRequest, events=TextCompletionChunk
    ),
    ("POST", "/v1/chat/completions/render"): Operation(
        "What the model would be given; nothing is generated", Rendered, ENGINE, RenderRequest
    ),
    ("POST", "/tokenize"): Operation(
        "The tokens of a text or of a conversation", Tokenized, ENGINE, TokenizeText | TokenizeChat
    ),
    ("POST", "/detokenize"): Operation("The text of tokens", Detokenized, ENGINE, Detokenize),
    ("POST", "/v1/files"): Operation("Upload a file", FileObject, (*BODY, 404, 507), form=UploadForm),
    ("GET", "/v1/files"): Operation(
        "The files",
        _STATE,
        STORAGE,
        query={"after": _STRING, "limit": _limit(10_000), "order": _ORDER, "purpose": _STRING},
    ),
    ("GET", "/v1/files/{file_id}"): Operation("A file", FileObject, STORAGE),
    ("DELETE", "/v1/files/{file_id}"): Operation("Delete a file", FileDeleted, STORAGE),
    ("GET", "/v1/files/{file_id}/content"): Operation("What is in a file", BYTES, STORAGE),
    ("POST", "/v1/batches"): Operation(
        "Answer the requests in a file when there is room", Batch, (*BODY, 404, 507), BatchCreate
    ),
    ("GET", "/v1/batches"): Operation(
        "The batches", _STATE, STORAGE, query={"after": _STRING, "limit": _limit(100)}
    ),
    ("GET", "/v1/batches/{batch_id}"): Operation("A batch", Batch, STORAGE),
    ("POST", "/v1/batches/{batch_id}/cancel"): Operation("Cancel a batch", Batch, STORAGE),
    ("GET", "/v1/models"): Operation("The model's names", ModelList),
    ("GET", "/v1/models/{name}"): Operation("What the model takes", ModelCard, (404,)),
    ("GET", "/health"): Operation("Whether requests are answered", _STATE, others=_HEALTH),
    ("GET", "/health/ready"): Operation("Whether requests are answered", _STATE, others=_HEALTH),
    ("GET", "/health/live"): Operation("Whether the process runs", _STATE),
    ("GET", "/metrics"): Operation("Metrics, in Prometheus' text format", TEXT),
}
