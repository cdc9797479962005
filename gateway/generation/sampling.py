"""How tokens are drawn: what a request says of it, checked against the model."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from gateway.engine.interface import Constraint, Model, Sampling
from gateway.errors import ContextLengthExceeded, InvalidValue
from gateway.prompt.tokens import SHORTEN
from gateway.schema.paths import short
from gateway.schema.sampling import SEED_END

MAX_TOKENS = ("max_output_tokens", "max_completion_tokens", "max_tokens")  # the first that is given counts
MOST_LOGPROBS = 200_000  # entries of a request's answers: they take 20 MB of JSON
TOKEN_ID = re.compile(r"[0-9]{1,9}")


def with_defaults(given: Mapping[str, Any], profile: Mapping[str, float]) -> Mapping[str, Any]:
    """Return `given` with the profile's `temperature` and `top_p` where it has neither.

    The two are one decision: a client that gives one means OpenAI's default by the other.
    """
    return given if given.keys() & {"temperature", "top_p"} else {**profile, **given}


def sampling_of(
    given: Mapping[str, Any],
    model: Model,
    prompt_tokens: int,
    param: str = "messages",
    over: Literal["cut", "refuse"] = "cut",
    *,
    constraint: Constraint | None = None,
) -> Sampling:
    """Return the sampling that `given` (`SamplingFields` by name, none of them null) comes to.

    `param` is the field that has the prompt, as errors name it; `over` says what becomes of a longest answer
    for which there is no room. What has its own rule here is replaced; the rest goes to the engine as it is.
    Raises RequestError.
    """
    rest = dict(given)
    if rest.get("top_p") == 0:  # The likeliest token alone is left; the engine wants that said otherwise.
        rest |= {"temperature": 0.0, "top_p": 1.0}
    if constraint is not None:
        _check_ends(given, constraint)
    _check_seed(given)
    max_tokens = _max_tokens(rest, model, prompt_tokens, param, over)
    for name in (*MAX_TOKENS, "top_logprobs"):
        rest.pop(name, None)
    return Sampling(
        **{
            **rest,
            "max_tokens": max_tokens,
            "stop": tuple(rest.get("stop", ())),
            "stop_token_ids": _stop_token_ids(rest, model),
            "logit_bias": _logit_bias(rest, model),
            "logprobs": _logprobs(given, max_tokens),
            "constraint": constraint,
        }
    )


def _check_ends(given: Mapping[str, Any], constraint: Constraint) -> None:
    """Refuse what would go on where the constraint demands an end."""
    for name in ("min_tokens", "ignore_eos"):
        if given.get(name):
            raise InvalidValue(f"{name}: it cannot be used with `{constraint.param}`", param=name)


def _check_seed(given: Mapping[str, Any]) -> None:
    """Refuse a seed whose last choice's is over 64 bits: the engine draws choice i with seed + i."""
    seed, choices = given.get("seed", 0), given.get("n", 1)
    if seed > (most := SEED_END - choices):
        raise InvalidValue(
            f"seed: it must be at most {most} (2**63 - {choices}, for each choice has a seed of its own); "
            f"got {seed}",
            param="seed",
        )


def _max_tokens(given: Mapping[str, Any], model: Model, prompt_tokens: int, param: str, over: str) -> int:
    left = model.context_length - prompt_tokens
    if left < 1:
        raise ContextLengthExceeded(
            f"{param}: the prompt has {prompt_tokens} tokens and leaves no room for an answer; {SHORTEN}",
            context_length=model.context_length,
            param=param,
        )
    name = next((name for name in MAX_TOKENS if name in given), "max_tokens")
    wanted: int = given.get(name, left)
    if wanted > left and over == "refuse":
        raise ContextLengthExceeded(
            f"{name}: the prompt has {prompt_tokens} tokens, and {wanted} more are asked for",
            context_length=model.context_length,
            param=name,
        )
    wanted = min(wanted, left)
    least = given.get("min_tokens", 0)
    if least > wanted:
        raise InvalidValue(
            f"min_tokens: the answer can have {wanted} tokens; got {least}", param="min_tokens"
        )
    return wanted


def _stop_token_ids(given: Mapping[str, Any], model: Model) -> tuple[int, ...]:
    ids = tuple(given.get("stop_token_ids", ()))
    for place, token in enumerate(ids):
        _check_token(token, f"stop_token_ids[{place}]", model)
    return ids


def _logit_bias(given: Mapping[str, Any], model: Model) -> dict[int, float]:
    biases = {}
    for name, bias in given.get("logit_bias", {}).items():
        param = f"logit_bias.{short(name)}"
        if TOKEN_ID.fullmatch(name) is None:
            raise InvalidValue(f"{param}: the keys are token ids; got {short(name)!r}", param=param)
        _check_token(int(name), param, model)
        biases[int(name)] = bias
    return biases


def _check_token(token: int, param: str, model: Model) -> None:
    if token >= model.vocabulary_size:
        raise InvalidValue(f"{param}: the model has {model.vocabulary_size} tokens; got {token}", param=param)


def check_logprobs(number: int) -> None:
    """Refuse more than MOST_LOGPROBS of several prompts, or with those of echoed prompts."""
    if number > MOST_LOGPROBS:
        raise InvalidValue(
            f"logprobs: the prompts and answers have up to {number}; the limit is {MOST_LOGPROBS}",
            param="logprobs",
        )


def _logprobs(given: Mapping[str, Any], max_tokens: int) -> int | None:
    asked = given.get("logprobs", False)
    if given.get("top_logprobs") and not asked:
        raise InvalidValue("top_logprobs: it needs `logprobs` to be true", param="top_logprobs")
    if not asked:
        return None
    top: int = given.get("top_logprobs", 0)
    entries = given.get("n", 1) * max_tokens * (top + 1)
    if entries > MOST_LOGPROBS:
        raise InvalidValue(
            f"logprobs: n x max_tokens x (top_logprobs + 1) is {entries}; the limit is {MOST_LOGPROBS}",
            param="logprobs",
        )
    return top
