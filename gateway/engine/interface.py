"""The seam between the gateway and an engine: valid jobs go in, deltas come out."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from PIL import Image

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A square RGB picture of the model's side, and the key that names these very pixels in every cache."""

    pixels: Image.Image
    key: str


@dataclass(frozen=True, slots=True)
class Constraint:
    """The form that an answer must have: a text of `grammar`, in Lark as llguidance has it or in EBNF.

    `param` is the request's field that asks for it, as errors name it. What is remembered of a constraint is
    remembered for its `scope` alone.
    """

    grammar: str = field(repr=False)
    param: str = field(compare=False)
    scope: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; the names and ranges are vLLM's `SamplingParams`."""

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
    """A request that is valid. Nobody checks it again.

    `token_ids` holds one image token for each of `pictures`, in their order; the engine makes of each as many
    as the model has patches. Where the answer is not streamed, a choice may come in one delta.
    """

    id: str
    token_ids: list[int]
    pictures: tuple[Picture, ...]
    sampling: Sampling
    stream: bool = True
    priority: int = 0  # the lower comes first
    cache_salt: str | None = None  # jobs with different salts never find each other's prompts cached
    trace_headers: Mapping[str, str] | None = None  # W3C's, of the span that the engine's belong under


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's text and bytes, its log probability, and the likeliest tokens at its place.

    A prompt's first token, which nothing precedes, has NaN.
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
    prompt_logprobs: tuple[TokenLogprob, ...] = ()  # in a job's first delta, where asked for
    times: Times | None = None  # with a job's last delta, where the engine knows them
    made: float = 0.0  # when its last token was, in seconds on the engine's clock; 0 where it does not say


class Vocabulary(Protocol):
    """Text to token ids. Nothing in the text is ever taken for a special token."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without special tokens."""

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        """Return the text of `ids`, with that of special tokens where `special`."""

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as the vocabulary spells it."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the rest of the gateway has to know of the model that is loaded."""

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
    """What runs, for people and metrics: versions and choices by vLLM's names."""

    version: str
    dtype: str
    quantization: str  # "none" where there is none
    attention_backend: str
    kv_cache_tokens: int  # the room in the KV cache


class Engine(Protocol):
    """Runs jobs. `model` and `info` may be asked for once `start` has returned."""

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
        """Raise InvalidValue where `constraint` cannot be enforced, or only at too high a cost."""

    def generate(self, job: Job) -> AsyncGenerator[Delta]:
        """Yield the deltas of all choices, each choice's last one with a finish reason.

        Closing the generator aborts the job. Raises EngineDied where the engine does not live any more, and
        another GatewayError where it refuses or fails.
        """

    async def beat(self) -> None:
        """Return as soon as the engine's core has answered; that may be after a step of its work."""

    def effort(self) -> float:
        """Return the CPU time that the engine's processes have used, in seconds."""

    def kill(self) -> None:
        """End the engine's processes at once; its jobs then raise EngineDied."""

    async def shutdown(self) -> None:
        """End the engine and its processes."""
