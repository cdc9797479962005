"""Slots, ends and `<s>` are tokens; whatever a user types is not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.engine.interface import Model, Vocabulary
from gateway.errors import ContextLengthExceeded
from gateway.prompt.styles import STYLES, Style
from gateway.prompt.template import END, SLOT, PromptMessage, Slot, render
from gateway.prompt.tokens import count_up_to, encode, length
from tests.prompt.conversations import assistant, system, user


def as_bytes(text: str) -> list[int]:
    return [3 + byte for byte in text.encode()]


def test_a_prompt_is_one_s_then_its_segments(byte_model: Model) -> None:
    ids = encode(("a<image>", SLOT, SLOT, "</s>ü", END, "b"), byte_model)
    assert ids == [1, *as_bytes("a<image>"), 259, 259, *as_bytes("</s>ü"), 2, *as_bytes("b")]


def test_every_picture_counts_as_many_tokens_as_it_has_patches(byte_model: Model) -> None:
    ids = encode(("abc", SLOT, SLOT, "de"), byte_model)
    assert length(ids, byte_model) == 1 + 3 + 2 * 576 + 2


class Never(Vocabulary):
    def encode(self, text: str) -> list[int]:
        raise AssertionError(text[:20])

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        raise AssertionError(ids, special)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        raise AssertionError(ids)


def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenised(byte_model: Model) -> None:
    """27 bytes a token at best: 4094 tokens, a `<s>` and a `</s>` are the most there can be."""
    model = replace(byte_model, vocabulary=Never())
    most = "é" * (4094 * 27 // 2)
    with pytest.raises(AssertionError, match="é"):
        encode((most, END), model)
    with pytest.raises(ContextLengthExceeded) as refusal:
        encode((most + "é", END), model)
    assert refusal.value.message == (
        "This model's maximum context length is 4096 tokens. "
        "messages: the prompt has at least 4097 tokens; shorten the text, or leave out earlier messages"
    )
    assert refusal.value.param == "messages"


def test_text_is_not_counted_beyond_what_matters(byte_model: Model) -> None:
    assert count_up_to("é" * 50, byte_model, 1000) == 100
    assert count_up_to("a" * 28 * 1000, replace(byte_model, vocabulary=Never()), 1000) > 1000


def test_text_of_too_many_words_is_refused_before_it_is_tokenised(byte_model: Model) -> None:
    model = replace(byte_model, vocabulary=Never())
    with pytest.raises(AssertionError, match="a a"):
        encode(("a " * 4096,), model)
    with pytest.raises(ContextLengthExceeded, match=r"at least 4097 tokens; shorten"):
        encode(("a  " * 4097,), model)


def test_pictures_that_cannot_fit_are_refused_before_text_is_tokenised(byte_model: Model) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"at least 4610 tokens; shorten"):
        encode(("a", *[SLOT] * 8), replace(byte_model, vocabulary=Never()))


TEXTS = st.lists(
    st.sampled_from(["<image>", "<s>", "</s>", "<pad>", "<unk>", "<0x0A>", "USER: ", "ASSISTANT:", "\n", " "])
    | st.text(max_size=8)
).map("".join)
PARTS = st.lists(TEXTS | st.just(SLOT), max_size=4).map(tuple)
MESSAGES = st.lists(
    st.builds(user, TEXTS)
    | st.builds(assistant, TEXTS)
    | st.builds(system, TEXTS)
    | st.builds(PromptMessage, st.just("user"), PARTS),
    max_size=5,
)


@given(messages=MESSAGES, last=PARTS, style=st.sampled_from(list(STYLES.values())))
@settings(deadline=None)  # The machine may be busy.
@example(messages=[user("<image>")], last=("</s><s><image>", SLOT), style=STYLES["card"])
def test_tokens_are_where_slots_and_ends_are_and_nowhere_else(
    byte_model: Model, messages: list[PromptMessage], last: tuple[str | Slot, ...], style: Style
) -> None:
    conversation = [*messages, PromptMessage("user", (*last, "?"))]
    segments = render(conversation, style)
    ids = encode(segments, replace(byte_model, context_length=1_000_000))
    assert ids.index(byte_model.bos_token) == 0
    assert ids.count(byte_model.bos_token) == 1
    slots = sum(message.parts.count(SLOT) for message in conversation)
    assert ids.count(byte_model.image_token) == segments.count(SLOT) == slots
    assert ids.count(byte_model.eos_token) == segments.count(END)
    text = "".join(segment for segment in segments if isinstance(segment, str))
    assert [i for i in ids if i not in {1, 2, 259}] == as_bytes(text)
