"""Sampling parameters that all generating routes share. A new parameter is a line here."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from gateway.schema.wire import Body

MOST_BIASES = 300  # OpenAI's limit
MOST_STOPS = 16
LONGEST_STOP = 1000  # characters: vLLM searches the answer for each with every token
SEED_END = 2**63  # the engine keeps a signed 64-bit integer


def _strings(stop: Any) -> Any:
    """Return a list of strings without empty ones, which frontends send for empty form fields."""
    stops = [stop] if isinstance(stop, str) else stop
    return [each for each in stops if each != ""] if isinstance(stops, list) else stops


def _in_range(seed: Any) -> Any:
    if type(seed) is int and not -SEED_END <= seed < SEED_END:
        raise ValueError(f"it must be from {-SEED_END} to {SEED_END - 1}")
    return seed


TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]],
    Field(max_length=MOST_STOPS),
    BeforeValidator(_strings, json_schema_input_type=str | list[str]),
]
Bias = Annotated[float, Field(ge=-100, le=100)]


def _few(biases: Any) -> Any:
    if isinstance(biases, dict) and len(biases) > MOST_BIASES:
        raise ValueError(f"must have at most {MOST_BIASES} tokens")
    return biases


class DrawingFields(Body):
    """Sampling parameters of all generating routes. Ranges are OpenAI's if it has the parameter."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: Stop | None = None
    seed: Annotated[int, BeforeValidator(_in_range), Field(ge=-SEED_END, lt=SEED_END)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Bias], BeforeValidator(_few), Field(max_length=MOST_BIASES)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    # The engine divides by it in 32 bits: a value near 0 would make every probability NaN.
    repetition_penalty: Annotated[float, Field(ge=0.001, le=2)] | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None

    def given_drawing(self) -> dict[str, Any]:
        """Return the fields that the client gave a value, by name."""
        return self._given(DrawingFields)

    def _given(self, kind: type[Body]) -> dict[str, Any]:
        values = ((name, getattr(self, name)) for name in kind.model_fields)
        return {name: value for name, value in values if value is not None}


class SamplingFields(DrawingFields):
    """Further sampling parameters of chat."""

    n: Annotated[int, Field(ge=1, le=16)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None

    def given_sampling(self) -> dict[str, Any]:
        """Return the fields that the client gave a value, by name."""
        return self._given(SamplingFields)
