"""What vLLM gives back, in the gateway's words: deltas, times and errors. Imports vLLM."""

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
    """Have vLLM not decode the tokens that it gives log probabilities of.

    It would do so one by one on the event loop, 336 of them in a step of n=16 and top_logprobs=20; the
    vocabulary knows how each is spelt.
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
    """Return what vLLM's `RequestStateStats` says of a request that has ended."""
    if stats is None or not stats.scheduled_ts:
        return None
    return Times(
        stats.scheduled_ts - stats.queued_ts,
        stats.first_token_ts - stats.scheduled_ts,
        stats.last_token_ts - stats.first_token_ts,
    )


def lost_picture(output: Any) -> bool:
    """Say whether vLLM's core lacked a picture that its front-end took for cached; rendering again sends it.

    It happens to the request after one that was refused or left between rendering and running.
    """
    return any(choice.finish_reason == "error" and not choice.token_ids for choice in output.outputs)


def translated(error: Exception, *, begun: bool, dead: bool = False) -> GatewayError:
    """Return what `error` of vLLM's is to the gateway; an answer that has `begun` was not refused.

    From a `dead` engine any error is of its death.
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
