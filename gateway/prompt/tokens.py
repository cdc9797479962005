"""Encodes segments as token ids."""

from collections.abc import Sequence

from gateway.engine.interface import Model
from gateway.errors import ContextLengthExceeded
from gateway.prompt.template import SLOT, Segment

SHORTEN = "shorten the text, or leave out earlier messages"
LONGEST_TOKEN = 27  # bytes of UTF-8, in Llama's vocabulary: ` административ`


def encode(segments: Sequence[Segment], model: Model, param: str = "messages") -> list[int]:
    """Return the prompt's token ids: `<s>` once, at the start, and one image token for each slot.

    Text is encoded segment by segment, as LLaVA's `tokenizer_image_token` does between images. Raises
    ContextLengthExceeded, which names `param`, if the text is too long however it is tokenized.
    """
    # Checked first, because tokenizing a megabyte takes 0.2 s.
    least = _least_length(segments, model)
    if least <= model.context_length:  # short enough to count words
        least = max(least, _words(segments))
    if least > model.context_length:
        raise ContextLengthExceeded(
            f"{param}: the prompt has at least {least} tokens; {SHORTEN}",
            context_length=model.context_length,
            param=param,
        )
    ids = [model.bos_token]
    for segment in segments:
        if isinstance(segment, str):
            ids.extend(model.vocabulary.encode(segment))
        else:
            ids.append(model.image_token if segment is SLOT else model.eos_token)
    return ids


def length(ids: Sequence[int], model: Model) -> int:
    """Return the prompt's length in the engine's tokens, each image at its full length."""
    return len(ids) + ids.count(model.image_token) * (model.tokens_per_image - 1)


def count_up_to(text: str, model: Model, most: int) -> int:
    """Return the number of tokens of `text` if that is at most `most`; else a number above `most`."""
    least = -(-len(text) // LONGEST_TOKEN)
    return least if least > most else len(model.vocabulary.encode(text))


def _least_length(segments: Sequence[Segment], model: Model) -> int:
    least = 1
    for segment in segments:
        if isinstance(segment, str):
            least += -(-len(segment.encode()) // LONGEST_TOKEN)
        else:
            least += model.tokens_per_image if segment is SLOT else 1
    return least


def _words(segments: Sequence[Segment]) -> int:
    """Return the number of words. Each is at least one token: none of Llama's has a space within it."""
    return sum(sum(map(bool, segment.split(" "))) for segment in segments if isinstance(segment, str))
