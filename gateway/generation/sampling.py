"""How tokens are drawn: what a request says of it, checked against the model."""

import re

from gateway.engine.interface import Model, Sampling
from gateway.errors import ContextLengthExceeded, InvalidValue
from gateway.schema.chat import ChatCompletionRequest
from gateway.schema.validation import short

TOKEN_ID = re.compile(r"[0-9]{1,9}")


def sampling_of(request: ChatCompletionRequest, model: Model, prompt_tokens: int) -> Sampling:
    given = {name: getattr(request, name) for name in _SAME_IN_SAMPLING}
    return Sampling(
        max_tokens=_max_tokens(request, model, prompt_tokens),
        stop=tuple(request.stop or ()),
        stop_token_ids=_stop_token_ids(request, model),
        logit_bias=_logit_bias(request, model),
        logprobs=_logprobs(request),
        **{name: value for name, value in given.items() if value is not None},
    )


_SAME_IN_SAMPLING = (
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "seed",
)


def _max_tokens(request: ChatCompletionRequest, model: Model, prompt_tokens: int) -> int:
    left = model.context_length - prompt_tokens
    if left < 1:
        raise ContextLengthExceeded(
            f"messages: the prompt has {prompt_tokens} tokens; the model's context of "
            f"{model.context_length} tokens must hold it and an answer",
            param="messages",
        )
    name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    wanted: int | None = getattr(request, name)
    if wanted is not None and wanted > left:
        raise ContextLengthExceeded(
            f"{name}: the prompt has {prompt_tokens} tokens and {wanted} more are asked for; the model's "
            f"context is {model.context_length} tokens",
            param=name,
        )
    tokens_asked = left if wanted is None else wanted
    if request.min_tokens is not None and request.min_tokens > tokens_asked:
        raise InvalidValue(
            f"min_tokens: {request.min_tokens} came; the answer can have {tokens_asked} tokens",
            param="min_tokens",
        )
    return tokens_asked


def _stop_token_ids(request: ChatCompletionRequest, model: Model) -> tuple[int, ...]:
    ids = tuple(request.stop_token_ids or ())
    for place, token in enumerate(ids):
        _check_token(token, f"stop_token_ids[{place}]", model)
    return ids


def _logit_bias(request: ChatCompletionRequest, model: Model) -> dict[int, float]:
    biases = {}
    for name, bias in (request.logit_bias or {}).items():
        param = f"logit_bias.{short(name)}"
        if TOKEN_ID.fullmatch(name) is None:
            raise InvalidValue(f"{param}: the keys are token ids; {short(name)!r} came", param=param)
        _check_token(int(name), param, model)
        biases[int(name)] = bias
    return biases


def _check_token(token: int, param: str, model: Model) -> None:
    if token >= model.vocabulary_size:
        raise InvalidValue(
            f"{param}: the model has {model.vocabulary_size} tokens; {token} came", param=param
        )


def _logprobs(request: ChatCompletionRequest) -> int | None:
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidValue("top_logprobs: it needs `logprobs` to be true", param="top_logprobs")
    return (request.top_logprobs or 0) if request.logprobs else None
