"""Converts text to token ids, and token ids to text and bytes."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Protocol, Self

from tokenizers import Tokenizer

from gateway.engine.interface import TokenLogprob


class _Logprob(Protocol):
    """The fields of vLLM's `Logprob` that are used; the most likely token has rank 1."""

    logprob: float
    rank: int | None


class TokenizerFile:
    """A Llama tokenizer from its `tokenizer.json`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # A user's `</s>` or `<image>` is text: without this it would become the token of that name.
        tokenizer.encode_special_tokens = True
        # A file may have the padding and truncation of the program that saved it.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._spelt: dict[int, tuple[str, bytes]] = {}  # text and bytes of the tokens used so far

    @classmethod
    def from_file(cls, path: Path | str) -> Self:
        return cls(Tokenizer.from_file(str(path)))

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens."""
        # The plain `encode` holds the GIL, and also computes offsets.
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        """Return the text of `ids`, with special tokens (`<s>`) if `special`."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=not special)
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as the vocabulary spells it: Llama's has `▁` for a space."""
        return [self._tokenizer.id_to_token(token) or "" for token in ids]

    def raw(self, token: int) -> bytes:
        """Return the bytes that `token` stands for: Llama's `▁` is a space, `<0xE4>` is the byte E4."""
        piece: str = self._tokenizer.id_to_token(token) or ""
        if len(piece) == len("<0x00>") and piece.startswith("<0x"):
            return bytes.fromhex(piece[3:5])
        return piece.replace("▁", " ").encode()

    def logprobs(
        self, tokens: Sequence[int], positions: Sequence[Mapping[int, _Logprob]] | None, top: int | None
    ) -> tuple[TokenLogprob, ...]:
        """Return the log probabilities of `tokens`, each with the `top` most likely at its position."""
        if positions is None or top is None:
            return ()
        return tuple(
            self._position(token, position, top) for token, position in zip(tokens, positions, strict=True)
        )

    def prompt_logprobs(
        self,
        tokens: Sequence[int],
        positions: Sequence[Mapping[int, _Logprob] | None] | None,
        top: int | None,
    ) -> tuple[TokenLogprob, ...]:
        """Return the log probabilities of a prompt's `tokens`; the first is NaN.

        vLLM reports them with a job's first output; with later ones `positions` can be empty.
        """
        if not positions or top is None:
            return ()
        return tuple(
            self._position(token, position, top) if position else self._entry(token, nan)
            for token, position in zip(tokens, positions, strict=True)
        )

    def _position(self, token: int, position: Mapping[int, _Logprob], top: int) -> TokenLogprob:
        likeliest = sorted((entry.rank or 0, other) for other, entry in position.items())
        return self._entry(
            token,
            position[token].logprob,
            tuple(self._entry(other, position[other].logprob) for rank, other in likeliest if rank <= top),
        )

    def _entry(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        spelt = self._spelt.get(token)
        if spelt is None:
            raw = self.raw(token)
            spelt = self._spelt[token] = raw.decode(errors="replace"), raw
        return TokenLogprob(*spelt, logprob, top)
