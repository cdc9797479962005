"""`GET /v1/models`: the answers."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a client may want to know of the model beside its name.

    `context_length` is the running engine's; until it has started, the profile's, and `tokens_per_image` is
    null. `max_images` is how many a prompt may have, `max_image_bytes` the limit of one encoded image and
    `max_body_bytes` that of a request.
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
    """A name of the model. `root` (the model behind it) and `max_model_len` are vLLM's; `gateway` is ours."""

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
