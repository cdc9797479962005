"""The interface between the gateway and an engine: valid jobs go in, deltas come out."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from PIL import Image

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A square RGB image of the model's input size, and the key of exactly these pixels in every cache."""

    pixels: Image.Image
    key: str


@dataclass(frozen=True, slots=True)
class Constraint:
    """A grammar that the answer must match, in llguidance's Lark or in EBNF.

    `param` is the request's field that asks for it, for errors. A cached result is used only in its `scope`.
    """

    grammar: str = field(repr=False)
    param: str = field(compare=False)
    scope: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are sampled; names and ranges are those of vLLM's `SamplingParams`."""

    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    ignore_eos: bool = False
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A valid request; it is not checked again.

    `token_ids` has one image token per picture, in the order of `pictures`; the engine repeats each to the
    model's number of patches. If `stream` is false, a choice may come in one delta.
    """

    id: str
    token_ids: list[int]
    pictures: tuple[Picture, ...]
    sampling: Sampling
    stream: bool = True
    priority: int = 0  # lower runs first
    cache_salt: str | None = None  # jobs with different salts never find each other's prompts cached
    trace_headers: Mapping[str, str] | None = None  # W3C trace context of the parent span


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's text and bytes, its log probability, and the most likely tokens at its position.

    The first token of a prompt has NaN, because nothing precedes it.
    """

    token: str
    raw: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


class Times(NamedTuple):
    """Where a job's time went in the engine, in seconds."""

    queue: float
    prefill: float
    generate: float


@dataclass(frozen=True, slots=True)
class Delta:
    """What one of a job's choices gained since its last delta."""

    index: int
    text: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()  # in a job's first delta, if requested
    times: Times | None = None  # in a job's last delta, if the engine reports them
    made: float = 0.0  # time of its last token, in seconds on the engine's clock; 0 if unknown


class Vocabulary(Protocol):
    """Converts text to token ids and back. Text never becomes a special token."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without special tokens."""

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        """Return the text of `ids`, with special tokens if `special`."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as the vocabulary spells it."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the rest of the gateway needs to know about the loaded model."""

    name: str
    context_length: int  # tokens
    image_side: int  # pixels
    tokens_per_image: int
    image_token: int
    bos_token: int
    eos_token: int
    vocabulary_size: int
    vocabulary: Vocabulary
    fingerprint: str = "fp_unknown"  # of the model, its settings and the versions that run it


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What runs, for people and metrics, in vLLM's names."""

    version: str
    dtype: str
    quantization: str  # or "none"
    attention_backend: str
    kv_cache_tokens: int  # size of the KV cache


class Engine(Protocol):
    """Runs jobs. `model` and `info` are available after `start`."""

    @property
    def model(self) -> Model: ...

    @property
    def info(self) -> EngineInfo: ...

    async def start(self) -> None:
        """Load the model; returns when jobs can run."""

    @property
    def failed(self) -> bool:
        """Whether the engine died and will not answer again."""

    async def check_constraint(self, constraint: Constraint) -> None:
        """Raise InvalidValue if `constraint` cannot be enforced, or costs too much."""

    def generate(self, job: Job) -> AsyncGenerator[Delta]:
        """Yield the deltas of all choices, each choice's last one with a finish reason.

        Closing the generator aborts the job. Raises EngineDied if the engine is dead, and another
        GatewayError if it refuses the job or fails.
        """

    async def beat(self) -> None:
        """Return when the engine's core has answered, which may be after its current step."""

    def effort(self) -> float:
        """Return the CPU time that the engine's processes have used, in seconds."""

    def memory(self) -> int:
        """Return the resident memory of the engine's processes, in bytes."""

    def kill(self) -> None:
        """End the engine's processes at once; its jobs then raise EngineDied."""

    async def shutdown(self) -> None:
        """End the engine and its processes."""
