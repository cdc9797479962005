"""Request and answer of `POST /v1/chat/completions/render`: the input that the model would get."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.ledger import Ledger
from gateway.schema.parameters import RENDER
from gateway.settings import Fit


class RenderRequest(ChatCompletionRequest):
    """A chat request, and the fits in which to return its images. Default: the request's own fit."""

    ledger: ClassVar[Ledger] = RENDER

    render_fits: Annotated[
        list[Literal["pad", "crop", "squash"]] | None, Field(min_length=1, max_length=3, fail_fast=True)
    ] = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of the prompt: `length` tokens from `offset`. Each special token is a separate run."""

    type: Literal["text", "image", "special"]
    text: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """An image of the prompt: its slot in the tokens, and its pixels as PNG data URLs by fit."""

    offset: int
    length: int
    width: int
    height: int
    fits: dict[Fit, str]


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many were dropped to make the request fit; of images and messages, the oldest."""

    images: int
    messages: int
    tools: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """The input that the engine would get. Nothing is generated."""

    model: str
    prompt: str
    tokens: list[int]
    token_strs: list[str]
    segments: list[Segment]
    prompt_tokens: int
    context_length: int
    images: list[RenderedImage]
    image_fit: Fit
    dropped: Dropped
    sampling: dict[str, Any]
    object: Literal["chat.completion.render"] = "chat.completion.render"
