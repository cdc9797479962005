"""The answers of `GET /v1/models`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about the model and the gateway's limits.

    `context_length` is the engine's; until it has started, it is the profile's, and `tokens_per_image` is
    null. `max_images` is the limit per prompt, `max_image_bytes` that of one encoded image, `max_body_bytes`
    that of a request.
    """

    context_length: int
    tokens_per_image: int | None
    max_images: int
    max_image_bytes: int
    max_body_bytes: int
    prompt_style: str
    image_fit: str
    image_place: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A name of the model. `root` (the model it stands for) and `max_model_len` are vLLM's extensions."""

    id: str
    created: int
    root: str
    max_model_len: int
    gateway: Capabilities
    object: Literal["model"] = "model"
    owned_by: Literal["llava-gateway"] = "llava-gateway"


@dataclass(frozen=True, slots=True)
class ModelList:
    data: list[ModelCard]
    object: Literal["list"] = "list"
