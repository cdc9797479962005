"""The history budget at the 7B's own sizes: 576 tokens a picture, 4096 in all, the real Llama tokenizer."""

import pytest

from gateway.engine.interface import Model
from gateway.errors import TooManyImages
from gateway.generation.history import RESERVE, Budget, Fitted, fit
from gateway.generation.request import InputImage, InputMessage
from gateway.prompt import tokens
from gateway.prompt.styles import STYLES
from gateway.prompt.template import SLOT, PromptMessage, Role, render
from gateway.settings import History, Settings
from tests.each import each

MOST = 7  # pictures; the setting's default
WORDS = "The picture shows a red star on a white ground, and nothing else can be seen in it. "


def said(role: Role, *parts: str | InputImage) -> InputMessage:
    return InputMessage(role, parts, "messages")


def turns(count: int, reply: str = "A red star.") -> tuple[InputMessage, ...]:
    """Return what a chat frontend sends in its turn number `count`: a picture and a question in each."""
    talk: list[InputMessage] = []
    for number in range(1, count + 1):
        picture = InputImage(str(number), "messages")
        talk += [said("user", picture, "What is in the image?"), said("assistant", reply)]
    return tuple(talk[:-1])


def fitted(
    messages: tuple[InputMessage, ...],
    model: Model,
    style: str = "card",
    policy: History = "keep_last",
    reserve: int = RESERVE,
) -> Fitted:
    def encode(messages: tuple[InputMessage, ...]) -> list[int]:
        spoken = [
            PromptMessage(
                message.role,  # type: ignore[arg-type]  # none is a tool's
                tuple(SLOT if isinstance(part, InputImage) else part for part in message.parts),
            )
            for message in messages
        ]
        return tokens.encode(render(spoken, STYLES[style]), model, "messages")

    return fit(messages, Budget(policy, MOST, reserve), model, encode)


def shown(found: Fitted) -> list[int]:
    return [int(image.url) for message in found.messages for image in message.images]


def test_the_setting_is_what_is_tested() -> None:
    assert Settings().max_images == MOST


@pytest.mark.parametrize("style", STYLES)
def test_a_short_question_about_seven_pictures_leaves_few_tokens(style: str, llama_7b: Model) -> None:
    pictures = [InputImage(str(number), "messages") for number in range(1, MOST + 1)]
    found = fitted((said("user", *pictures, "Which?"),), llama_7b, style)
    # The newest message's pictures are never left out, though only a few tokens remain for the answer.
    assert shown(found) == [1, 2, 3, 4, 5, 6, 7]
    assert 0 < llama_7b.context_length - tokens.length(found.ids, llama_7b) < RESERVE


@each("style", STYLES)
@each("count", range(1, 13))
def test_every_turn_of_a_chat_with_a_picture_each_keeps_the_newest_that_fit(
    count: int, style: str, llama_7b: Model
) -> None:
    found = fitted(turns(count), llama_7b, style)
    # Seven pictures are 4032 tokens: with the words and 256 tokens for the answer, six fit.
    kept = min(count, 6)
    assert shown(found) == list(range(count - kept + 1, count + 1))
    assert found.dropped_images == count - kept
    assert found.ids.count(llama_7b.image_token) == kept
    assert tokens.length(found.ids, llama_7b) == len(found.ids) + 575 * kept
    assert tokens.length(found.ids, llama_7b) + RESERVE <= llama_7b.context_length


def test_long_replies_cost_pictures_and_never_one_more_than_they_must(llama_7b: Model) -> None:
    messages = turns(10, reply=WORDS * 10)
    found = fitted(messages, llama_7b)
    kept = len(shown(found))
    assert 0 < kept < 6
    assert shown(found) == list(range(10 - kept + 1, 11))
    room = llama_7b.context_length - RESERVE - tokens.length(found.ids, llama_7b)
    # One picture more would have taken 576 tokens, less those of the text that stands in its place.
    assert 0 <= room < llama_7b.tokens_per_image


def test_a_short_answer_leaves_room_for_a_seventh_picture(llama_7b: Model) -> None:
    one_each = tuple(said("user", InputImage(str(number), "messages")) for number in range(1, 8))
    assert len(shown(fitted(one_each, llama_7b, reserve=RESERVE))) == 6
    assert len(shown(fitted(one_each, llama_7b, reserve=1))) == MOST


def test_an_eighth_picture_is_refused_where_none_may_be_left_out(llama_7b: Model) -> None:
    pictures = [InputImage(str(number), "messages") for number in range(8)]
    with pytest.raises(TooManyImages, match="has 8 images; the limit is 7"):
        fitted((said("user", *pictures),), llama_7b)
    with pytest.raises(TooManyImages, match="has 8 images; the limit is 7"):
        fitted(turns(8), llama_7b, policy="strict")
