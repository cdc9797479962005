"""`POST /tokenize` and `POST /detokenize`, in vLLM's shape: requests and answers."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.ledger import Ledger, honoured
from gateway.schema.parameters import CHAT
from gateway.schema.sampling import TokenId
from gateway.schema.wire import MODEL, Body

_TEXT = Ledger(
    {
        "Tokenize": (
            honoured("model", MODEL),
            honoured("prompt", "The text."),
            honoured("add_special_tokens", "`<s>` comes first, unless this is false."),
            honoured("return_token_strs", "The tokens are told as the vocabulary spells them, too."),
        )
    }
)
_IDS = Ledger(
    {
        "Detokenize": (
            honoured("model", MODEL),
            honoured("tokens", "The token ids."),
        )
    }
)


class TokenizeText(Body):
    """A text to tokenize."""

    ledger: ClassVar[Ledger] = _TEXT

    model: str | None = Field(default=None, description=MODEL)
    prompt: str
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class TokenizeChat(ChatCompletionRequest):
    """A chat request whose prompt is tokenized; no picture is fetched."""

    ledger: ClassVar[Ledger] = CHAT

    return_token_strs: bool | None = None


class Detokenize(Body):
    """Token ids to make text of."""

    ledger: ClassVar[Ledger] = _IDS

    model: str | None = Field(default=None, description=MODEL)
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]


@dataclass(frozen=True, slots=True)
class ImageSlot:
    """Where a picture stands in the tokens."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Tokenized:
    """`count` is what an answer's usage has as `prompt_tokens`; `images` is the gateway's own."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None
    images: list[ImageSlot]


@dataclass(frozen=True, slots=True)
class Detokenized:
    prompt: str
