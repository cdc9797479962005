"""Converts vLLM's outputs and errors to the gateway's. Imports vLLM."""

from collections.abc import Mapping
from typing import Any

from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.logprobs import LogprobsProcessor

from gateway.engine.interface import Delta, FinishReason, Sampling, Times
from gateway.engine.vocabulary import TokenizerFile
from gateway.errors import EngineDied, GatewayError, GenerationFailed, InvalidValue, Overloaded

_THEIRS = LogprobsProcessor.from_new_request.__func__
FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}


def deltas(output: Any, prompt: list[int], sampling: Sampling, vocabulary: TokenizerFile) -> list[Delta]:
    """Return the deltas of one of vLLM's `RequestOutput`s, one per choice. Raises GenerationFailed."""
    found = []
    prompt_logprobs = vocabulary.prompt_logprobs(prompt, output.prompt_logprobs, sampling.prompt_logprobs)
    for choice in output.outputs:
        if choice.finish_reason and choice.finish_reason not in FINISH_REASONS:
            raise GenerationFailed(f"the engine ended the answer early ({choice.finish_reason})")
        found.append(
            Delta(
                index=choice.index,
                text=choice.text,
                tokens=len(choice.token_ids),
                prompt_tokens=len(prompt),
                cached_tokens=output.num_cached_tokens or 0,
                finish_reason=FINISH_REASONS.get(choice.finish_reason or ""),
                logprobs=vocabulary.logprobs(choice.token_ids, choice.logprobs, sampling.logprobs),
                prompt_logprobs=prompt_logprobs,
                times=_times(output.metrics) if output.finished else None,
                made=output.metrics.last_token_ts if output.metrics else 0.0,
            )
        )
    return found


def without_words() -> None:
    """Keep vLLM from decoding the tokens of log probabilities.

    It would decode them one by one on the event loop, 336 of them in a step with n=16 and top_logprobs=20.
    The gateway's vocabulary has the text of each.
    """
    LogprobsProcessor.from_new_request = classmethod(_without_tokenizer)


def _without_tokenizer(
    cls: type[LogprobsProcessor],
    tokenizer: Any,  # noqa: ARG001  # vLLM names its arguments
    request: Any,
) -> LogprobsProcessor:
    made: LogprobsProcessor = _THEIRS(cls, tokenizer=None, request=request)
    return made


def _times(stats: Any) -> Times | None:
    """Return the times in vLLM's `RequestStateStats` of a finished request."""
    if stats is None or not stats.scheduled_ts:
        return None
    return Times(
        stats.scheduled_ts - stats.queued_ts,
        stats.first_token_ts - stats.scheduled_ts,
        stats.last_token_ts - stats.first_token_ts,
    )


def lost_picture(output: Any) -> bool:
    """Return whether vLLM's core lacked a picture that its front end considered cached.

    Building the input again sends the picture. This happens after a request that was refused or cancelled
    between building its input and running it.
    """
    return any(choice.finish_reason == "error" and not choice.token_ids for choice in output.outputs)


def translated(error: Exception, *, begun: bool, dead: bool = False) -> GatewayError:
    """Return the gateway's error for `error` from vLLM; an answer that has `begun` was not refused.

    If the engine is `dead`, any error is EngineDied.
    """
    if dead or isinstance(error, EngineDeadError):
        return EngineDied(
            "the engine died while it ran this request; another is being started", retry_after=30
        )
    if isinstance(error, GracefulHTTPError):
        return Overloaded("the engine's queue is full")
    if not begun and isinstance(error, VLLMClientError | ValueError):
        return InvalidValue(f"the engine refused the request: {error}")
    return GenerationFailed("the engine failed while it answered this request")
