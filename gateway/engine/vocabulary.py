"""The model's vocabulary: text to token ids, and token ids to the bytes they stand for."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Protocol, Self

from tokenizers import Tokenizer

from gateway.engine.interface import TokenLogprob


class _Logprob(Protocol):
    """What is read of vLLM's `Logprob`; the likeliest token has rank 1."""

    logprob: float
    rank: int | None


class TokenizerFile:
    """A Llama tokenizer from its `tokenizer.json`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # A user's `</s>` or `<image>` is text: without this it would be taken for the token of that name.
        tokenizer.encode_special_tokens = True
        # A file may carry the padding and the truncation of the program that saved it.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._spelt: dict[int, tuple[str, bytes]] = {}  # of tokens asked for: their text and their bytes

    @classmethod
    def from_file(cls, path: Path | str) -> Self:
        return cls(Tokenizer.from_file(str(path)))

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, no special token among them."""
        # The plain `encode` keeps the GIL, and finds out where each token stands in the text.
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        """Return the text of `ids`, with that of special tokens (`<s>`) where `special`."""
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
        self, tokens: Sequence[int], places: Sequence[Mapping[int, _Logprob]] | None, top: int | None
    ) -> tuple[TokenLogprob, ...]:
        """Return the log probabilities of `tokens`, each with the `top` likeliest at its place."""
        if places is None or top is None:
            return ()
        return tuple(self._place(token, place, top) for token, place in zip(tokens, places, strict=True))

    def prompt_logprobs(
        self, tokens: Sequence[int], places: Sequence[Mapping[int, _Logprob] | None] | None, top: int | None
    ) -> tuple[TokenLogprob, ...]:
        """Return those of a prompt's `tokens`; its first has none, and so NaN.

        vLLM tells them with a job's first output; with others `places` can be empty.
        """
        if not places or top is None:
            return ()
        return tuple(
            self._place(token, place, top) if place else self._entry(token, nan)
            for token, place in zip(tokens, places, strict=True)
        )

    def _place(self, token: int, place: Mapping[int, _Logprob], top: int) -> TokenLogprob:
        likeliest = sorted((entry.rank or 0, other) for other, entry in place.items())
        return self._entry(
            token,
            place[token].logprob,
            tuple(self._entry(other, place[other].logprob) for rank, other in likeliest if rank <= top),
        )

    def _entry(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        spelt = self._spelt.get(token)
        if spelt is None:
            raw = self.raw(token)
            spelt = self._spelt[token] = raw.decode(errors="replace"), raw
        return TokenLogprob(*spelt, logprob, top)
