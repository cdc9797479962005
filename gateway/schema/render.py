"""`POST /v1/chat/completions/render`: the request, and what the model would have been given."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.ledger import Ledger
from gateway.schema.parameters import RENDER
from gateway.settings import Fit


class RenderRequest(ChatCompletionRequest):
    """A chat request, and the fits in which its images are shown; the one asked for where there are none."""

    ledger: ClassVar[Ledger] = RENDER

    render_fits: Annotated[
        list[Literal["pad", "crop", "squash"]] | None, Field(min_length=1, max_length=3, fail_fast=True)
    ] = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of the prompt: `length` tokens from `offset` on. A special token is a run of its own."""

    type: Literal["text", "image", "special"]
    text: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """An image of the prompt: its slot in the tokens, and its pixels as PNG data URLs by their fit."""

    offset: int
    length: int
    width: int
    height: int
    fits: dict[Fit, str]


@dataclass(frozen=True, slots=True)
class Dropped:
    """How much was left out so that the request fits; of images and messages, the oldest."""

    images: int
    messages: int
    tools: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the engine would have been given. Nothing is generated."""

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
