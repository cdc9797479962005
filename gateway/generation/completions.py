"""From a completion request on the wire to a `GenerationRequest`, and from deltas to its choices. Pure."""

from collections.abc import Sequence
from dataclasses import fields
from math import isnan
from typing import Any, Final

import orjson

from gateway.engine.interface import Delta, TokenLogprob
from gateway.generation.reply import LEAST_LOGPROB
from gateway.generation.request import GenerationRequest, RawPrompt
from gateway.schema.chat_answer import FinishReason, PromptTokensDetails, Usage
from gateway.schema.completions import CompletionRequest, TextChoice, TextLogprobs

_LISTS: Final = tuple(field.name for field in fields(TextLogprobs))


def read(request: CompletionRequest, id: str, caller: str) -> GenerationRequest:  # noqa: A002  # the wire's word
    """Return what `request` asks for."""
    alone = len(request.prompt) == 1
    return GenerationRequest(
        id=id,
        model=request.model or "",
        ignored=request.ignored,
        messages=(),
        prompts=tuple(
            RawPrompt(prompt, "prompt" if alone else f"prompt[{place}]")
            for place, prompt in enumerate(request.prompt)
        ),
        echo=bool(request.echo),
        caller=caller,
        sampling=request.given_sampling(),
        stream=bool(request.stream),
    )


class TextReply:
    """The choices of one answer as they grow, and what it has used so far.

    `texts` are the prompts if they are echoed; each prompt has `n` choices. If `silent`, the choices
    contain nothing else.
    """

    def __init__(self, texts: Sequence[str], n: int, *, silent: bool) -> None:
        self._texts = texts
        self._n = n
        self._silent = silent
        self._lengths: dict[int, int] = {}  # of the text of each choice that is out
        self._prompts: dict[int, tuple[int, int]] = {}  # tokens and cached tokens of each prompt
        self._heads: dict[int, TextLogprobs] = {}  # of each prompt, for all its choices
        self._completion_tokens = 0

    def chunk(self, delta: Delta) -> TextChoice | None:
        """Return what `delta` adds to its choice, or None if there is nothing to send yet."""
        place = delta.index // self._n
        self._prompts[place] = (delta.prompt_tokens, delta.cached_tokens)
        text, entries, end = delta.text, delta.logprobs, delta.finish_reason
        if self._silent:
            text, entries, end = "", (), end and "length"
        else:
            self._completion_tokens += delta.tokens
        sent = self._lengths.get(delta.index)
        prompt = self._texts[place] if self._texts and sent is None else ""
        parts = []
        if delta.prompt_logprobs:
            self._heads[place] = _of_prompt(delta.prompt_logprobs, len(self._texts[place]))
        if sent is None and place in self._heads:
            parts.append(self._heads[place])
        if entries:
            parts.append(_logprobs(entries, (sent or 0) + len(prompt)))
        text = prompt + text
        if not (text or end or parts):
            return None
        self._lengths[delta.index] = (sent or 0) + len(text)
        return TextChoice(delta.index, text, _joined(parts) if parts else None, end)

    @property
    def usage(self) -> Usage:
        """Return the tokens used so far; each prompt counts once."""
        prompt_tokens = sum(tokens for tokens, _ in self._prompts.values())
        cached = sum(cached for _, cached in self._prompts.values())
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=self._completion_tokens,
            total_tokens=prompt_tokens + self._completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached),
        )


class TextChoices:
    """The choices of a non-streamed answer, put together from its chunks.

    Their log probabilities are kept as JSON: there are up to 200,000. As objects they take several times the
    memory, and written all at once at the end they hold up the event loop.
    """

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._ends: dict[int, FinishReason] = {}
        self._logprobs: dict[int, dict[str, bytearray]] = {}  # by choice and list, without brackets

    def take(self, gain: TextChoice) -> None:
        """Add one chunk."""
        self._texts.setdefault(gain.index, []).append(gain.text)
        if gain.finish_reason:
            self._ends[gain.index] = gain.finish_reason
        if gain.logprobs is None:
            return
        lists = self._logprobs.setdefault(gain.index, {name: bytearray() for name in _LISTS})
        for name, written in lists.items():
            if written:
                written.extend(b",")
            written.extend(orjson.dumps(getattr(gain.logprobs, name))[1:-1])

    def choices(self) -> list[TextChoice]:
        """Return the choices in the order of their numbers."""
        return [
            TextChoice(index, "".join(self._texts[index]), self._written(index), self._ends[index])
            for index in sorted(self._texts)
        ]

    def _written(self, index: int) -> TextLogprobs | None:
        lists = self._logprobs.pop(index, None)
        if lists is None:
            return None
        # orjson writes a fragment as it would have written the list.
        pieces: dict[str, Any] = {
            name: orjson.Fragment(b"".join((b"[", written, b"]"))) for name, written in lists.items()
        }
        return TextLogprobs(**pieces)


def _joined(parts: list[TextLogprobs]) -> TextLogprobs:
    return TextLogprobs(
        [token for part in parts for token in part.tokens],
        [value for part in parts for value in part.token_logprobs],
        [top for part in parts for top in part.top_logprobs],
        [offset for part in parts for offset in part.text_offset],
    )


def _of_prompt(entries: Sequence[TokenLogprob], length: int) -> TextLogprobs:
    """Return the log probabilities of a prompt of `length` characters.

    `<s>` is no text, and Llama's first word begins with a space that the prompt may not have: what the tokens
    have more than the text is taken from their front.
    """
    return _logprobs(entries, length - sum(len(entry.token) for entry in entries))


def _logprobs(entries: Sequence[TokenLogprob], start: int) -> TextLogprobs:
    """Return the log probabilities of what begins at character `start` of its choice."""
    offsets, at = [], start
    for entry in entries:
        offsets.append(max(0, at))
        at += len(entry.token)
    return TextLogprobs(
        [entry.token for entry in entries],
        [None if isnan(entry.logprob) else max(entry.logprob, LEAST_LOGPROB) for entry in entries],
        [None if isnan(entry.logprob) else _top(entry) for entry in entries],
        offsets,
    )


def _top(entry: TokenLogprob) -> dict[str, float]:
    # The likeliest last, so that it stays where two have the same text.
    return {other.token: max(other.logprob, LEAST_LOGPROB) for other in (*reversed(entry.top), entry)}
