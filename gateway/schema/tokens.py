"""Requests and answers of `POST /tokenize` and `POST /detokenize`, as vLLM has them."""

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
            honoured("add_special_tokens", "Whether to put `<s>` first. Default: true."),
            honoured("return_token_strs", "Also return the tokens as strings of the vocabulary."),
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
    """A chat request whose prompt is tokenized; no image is fetched."""

    ledger: ClassVar[Ledger] = CHAT

    return_token_strs: bool | None = None


class Detokenize(Body):
    """Token ids to detokenize."""

    ledger: ClassVar[Ledger] = _IDS

    model: str | None = Field(default=None, description=MODEL)
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]


@dataclass(frozen=True, slots=True)
class ImageSlot:
    """The position of an image in the tokens."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Tokenized:
    """The tokens of a prompt. `count` equals `prompt_tokens` in the usage; `images` is an extension."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None
    images: list[ImageSlot]


@dataclass(frozen=True, slots=True)
class Detokenized:
    prompt: str
