"""What a client asks for, by whatever route it came. The wire's words end here, and the pipeline's begin."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.prompt.template import Role
from gateway.settings import Fit


@dataclass(frozen=True, slots=True)
class InputImage:
    """Where an image comes from. `param` is the field that says so, as errors name it."""

    url: str = field(repr=False)
    param: str


@dataclass(frozen=True, slots=True)
class InputMessage:
    """One message: texts and images, in the client's order."""

    role: Role
    parts: tuple[str | InputImage, ...]
    param: str

    @property
    def images(self) -> list[InputImage]:
        return [part for part in self.parts if isinstance(part, InputImage)]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request, parsed and not yet checked against the model.

    `sampling` holds what the client said of it, by the names of `schema.sampling.SamplingFields`.
    """

    id: str
    model: str
    messages: tuple[InputMessage, ...]
    caller: str
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    image_fit: Fit | None = None
