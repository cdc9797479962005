"""What a client asks for, on any route. Wire types end here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.engine.interface import Constraint, Job
from gateway.prompt.template import Role
from gateway.settings import Fit, History, ImagePlace


@dataclass(frozen=True, slots=True)
class InputImage:
    """Where an image comes from: a URL, or a file by its id. `param` is the field that says so in errors."""

    url: str = field(repr=False)
    param: str
    file_id: str | None = None


def as_data_url(data: str) -> str:
    """Return the base64 text `data` as a `data:` URL, which it may be already."""
    return data if data[:99].lstrip()[:5].lower() == "data:" else f"data:;base64,{data}"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON schema of its arguments, an object's."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(repr=False)
    param: str


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the answer may or must be a call; `names` are the only tools that may be called."""

    mode: Literal["none", "auto", "required"] = "auto"
    names: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made in an earlier turn; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class InputMessage:
    """One message: texts and images, in the client's order.

    An assistant's may have `tool_calls` after its text. A message of role `tool` is the result of the call
    `tool_call_id`.
    """

    role: Role | Literal["tool"]
    parts: tuple[str | InputImage, ...]
    param: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def images(self) -> list[InputImage]:
        return [part for part in self.parts if isinstance(part, InputImage)]


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt that is the client's own, as text or token ids; `<s>` is put before it."""

    content: str | tuple[int, ...]
    param: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request, parsed and not yet checked against the model.

    `model` is empty where the client names none. `param` is the field that has the conversation, as errors
    name it. `sampling` holds what the client said
    of it, by the names of `schema.sampling.SamplingFields`. The answer goes on with the last message where it
    is `continued`; that message is the assistant's. Where there are `prompts`, there are no messages,
    and each prompt is answered by itself.
    """

    id: str
    model: str
    messages: tuple[InputMessage, ...]
    caller: str
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    image_fit: Fit | None = None
    image_history: History | None = None
    drop_turns: bool = False
    param: str = "messages"
    image_place: ImagePlace | None = None
    continued: bool = False
    constraint: Constraint | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = False  # whether one answer may have several calls
    prompts: tuple[RawPrompt, ...] = ()
    echo: bool = False  # whether the prompts are repeated before their answers
    ignored: tuple[str, ...] = ()  # unknown fields that the client sent


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request made ready: the engine's job, and what was left out so that it fits.

    `others` are the jobs of its other prompts, which differ in nothing else.

    `blank` says whether the space before the answer's first word belongs to the prompt's form.
    """

    job: Job
    model: str  # as the client named it, or as it is served
    dropped_images: int = 0
    dropped_messages: int = 0
    blank: bool = True
    others: tuple[Job, ...] = ()
    tools: tuple[str, ...] = ()  # tools that the answer may call
    dropped_tools: int = 0
    fingerprint: str = ""  # of what answers
    texts: tuple[str, ...] = ()  # of the prompts, if they are echoed
    ignored: tuple[str, ...] = ()  # unknown fields that the client sent

    @property
    def jobs(self) -> tuple[Job, ...]:
        return (self.job, *self.others)

    @property
    def choices(self) -> int:
        """Return how many answers there will be."""
        return self.job.sampling.n * (1 + len(self.others))

    @property
    def scored_tokens(self) -> int:
        """Return how many tokens have log probabilities at most; each choice repeats its prompt's."""
        sampling = self.job.sampling
        if sampling.logprobs is None:
            return 0
        tokens = sum(sampling.n * job.sampling.max_tokens for job in self.jobs)
        if sampling.prompt_logprobs is not None:
            tokens += sum(sampling.n * len(job.token_ids) for job in self.jobs)
        return tokens

    @property
    def log_probabilities(self) -> int:
        """Return how many there are at most: a token's own, and those of the likeliest at its place."""
        return self.scored_tokens * (1 + (self.job.sampling.logprobs or 0))

    @property
    def notices(self) -> dict[str, str]:
        """Return the headers that say what was left out of the request."""
        dropped = {
            "images": self.dropped_images,
            "messages": self.dropped_messages,
            "tools": self.dropped_tools,
        }
        headers = {f"x-gateway-dropped-{what}": str(count) for what, count in dropped.items() if count}
        return headers | ignored_header(self.ignored)


def ignored_header(ignored: Sequence[str]) -> dict[str, str]:
    """Return the header that names the fields `ignored`, if there are any."""
    # A client may give a field any name; a header has only some characters.
    named = ", ".join(re.sub(r"[^\w.\[\]$-]", "?", path, flags=re.ASCII) for path in ignored)
    return {"x-gateway-ignored": named} if ignored else {}
