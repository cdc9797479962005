"""A conversation with more pictures than fit keeps its newest ones."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from gateway.engine.interface import Model
from gateway.errors import ContextLengthExceeded, TooManyImages
from gateway.generation.history import Budget, Fitted, fit
from gateway.generation.request import InputImage, InputMessage
from gateway.prompt.template import Role
from tests.scripted_engine import MODEL

LEFT_OUT = len("[image 1 left out]")


def message(role: Role, *parts: str | int) -> InputMessage:
    """Return a message in which a number stands for the picture of that number."""
    return InputMessage(
        role, tuple(InputImage(str(part), "") if isinstance(part, int) else part for part in parts), ""
    )


def conversation(*pictures: int) -> tuple[InputMessage, ...]:
    """Return a turn of the user's for each number, with so many pictures, and replies between them."""
    turns = []
    number = 0
    for count in pictures:
        turns += [message("user", *range(number + 1, number + count + 1), "Q"), message("assistant", "A")]
        number += count
    return tuple(turns[:-1])


def encode(messages: Iterable[InputMessage]) -> list[int]:
    """Return a token for each character and picture, and a `<s>`; as the real one, refuse what cannot fit."""
    ids = [MODEL.bos_token]
    for part in (part for message in messages for part in message.parts):
        ids += [MODEL.image_token] if isinstance(part, InputImage) else MODEL.vocabulary.encode(part)
    if len(ids) > MODEL.context_length:
        raise ContextLengthExceeded("too long", context_length=MODEL.context_length, param="messages")
    return ids


def fitted(
    messages: tuple[InputMessage, ...], model: Model = MODEL, policy: str = "keep_last", reserve: int = 0
) -> Fitted:
    return fit(messages, Budget(policy, 7, reserve), model, encode)  # type: ignore[arg-type]  # a test's string


def shown(found: Fitted) -> list[str]:
    return [part.url for message in found.messages for part in message.parts if isinstance(part, InputImage)]


def context(tokens: int) -> Model:
    return replace(MODEL, context_length=tokens)


def test_a_conversation_that_fits_is_left_as_it_is() -> None:
    messages = conversation(*[1] * 7)
    found = fitted(messages)
    assert found.messages is messages
    assert found.dropped_images == 0


def test_the_newest_seven_pictures_stay_and_the_others_become_text_at_their_place() -> None:
    found = fitted(conversation(*[1] * 9))
    assert shown(found) == ["3", "4", "5", "6", "7", "8", "9"]
    assert found.dropped_images == 2
    first, _, second, _, third, *_ = found.messages
    assert first.parts == ("[image 1 left out]", "Q")
    assert second.parts == ("[image 2 left out]", "Q")
    assert isinstance(third.parts[0], InputImage)
    assert found.ids == encode(found.messages)


def test_of_a_message_with_several_pictures_the_first_are_left_out() -> None:
    found = fitted(conversation(4, 5))
    assert shown(found) == ["3", "4", "5", "6", "7", "8", "9"]
    assert found.messages[0].parts[:2] == ("[image 1 left out]", "[image 2 left out]")


@pytest.mark.parametrize(
    ("room", "stay"), [(0, 3), (-1, 2), (-(64 - LEFT_OUT), 2), (-(64 - LEFT_OUT) - 1, 1)]
)
def test_as_many_stay_as_the_context_has_room_for_to_the_token(room: int, stay: int) -> None:
    messages = conversation(1, 1, 1)
    whole = 1 + 5 + 3 * MODEL.tokens_per_image
    found = fitted(messages, context(whole + room))
    assert shown(found) == ["1", "2", "3"][3 - stay :]
    assert found.dropped_images == 3 - stay


def test_pictures_leave_the_reserve_for_the_answer() -> None:
    messages = conversation(1, 1)
    whole = 1 + 3 + 2 * MODEL.tokens_per_image
    assert fitted(messages, context(whole + 100), reserve=100).dropped_images == 0
    assert fitted(messages, context(whole + 99), reserve=100).dropped_images == 1


def test_the_newest_messages_pictures_stay_whatever_room_they_leave() -> None:
    found = fitted(conversation(1, 3), context(1 + 3 + LEFT_OUT + 3 * MODEL.tokens_per_image), reserve=100)
    assert shown(found) == ["2", "3", "4"]


def test_a_follow_up_without_pictures_keeps_the_newest_that_fit() -> None:
    assert shown(fitted((*conversation(*[1] * 8), message("assistant", "A"), message("user", "Q")))) == list(
        "2345678"
    )


def test_more_pictures_in_the_newest_message_than_allowed_are_refused() -> None:
    with pytest.raises(TooManyImages) as caught:
        fitted(conversation(1, 8))
    assert caught.value.message == ("messages: the newest message has 8 images; the limit is 7; send fewer")


def sampled(
    messages: tuple[InputMessage, ...], model: Model = MODEL, most: int = 7, **options: Any
) -> Fitted:
    return fit(
        messages, Budget("keep_last", most, overflow="sample", **{"reserve": 0, **options}), model, encode
    )


@pytest.mark.parametrize(
    ("frames", "most", "stay"),
    [
        (10, 7, ["1", "2", "4", "5", "7", "8", "10"]),
        (10, 4, ["1", "4", "7", "10"]),
        (8, 7, ["1", "2", "3", "4", "5", "6", "8"]),
        (10, 2, ["1", "10"]),
        (10, 1, ["10"]),
        (7, 7, ["1", "2", "3", "4", "5", "6", "7"]),
    ],
)
def test_of_too_many_frames_evenly_spaced_ones_stay_the_first_and_the_last_among_them(
    frames: int, most: int, stay: list[str]
) -> None:
    found = sampled(conversation(frames), most=most)
    assert shown(found) == stay
    assert found.dropped_images == frames - len(stay)
    assert found.messages[-1].parts[-1] == "Q"
    assert [part for part in found.messages[-1].parts if isinstance(part, str)] == ["Q"]
    assert found.ids == encode(found.messages)


def test_frames_are_sampled_as_far_as_the_context_asks_for_and_older_pictures_go_first() -> None:
    room = context(1 + 3 + LEFT_OUT + 3 * MODEL.tokens_per_image)
    found = sampled(conversation(1, 5), room)
    assert (shown(found), found.dropped_images) == (["2", "4", "6"], 3)
    assert found.messages[0].parts[0] == "[image 1 left out]"
    found = sampled(conversation(1, 5), room, reserve=10)
    assert (shown(found), found.dropped_images) == (["2", "6"], 4)


def test_turns_go_before_frames_are_sampled() -> None:
    room = context(1 + 1 + 3 * MODEL.tokens_per_image)
    found = sampled(conversation(1, 3), room, drop_turns=True)
    assert (shown(found), found.dropped_images, found.dropped_messages) == (["2", "3", "4"], 1, 2)


def test_strict_refuses_frames_that_could_be_sampled() -> None:
    with pytest.raises(TooManyImages):
        fit(conversation(8), Budget("strict", 7, overflow="sample"), MODEL, encode)


def test_strict_refuses_with_the_numbers_and_says_what_to_do() -> None:
    with pytest.raises(TooManyImages) as caught:
        fitted(conversation(*[1] * 8), policy="strict")
    assert caught.value.message == (
        "messages: the request has 8 images; the limit is 7; "
        "leave some out, or set `image_history` to `keep_last`"
    )


def test_strict_leaves_nothing_out_of_a_prompt_that_is_too_long() -> None:
    found = fitted(conversation(1, 1), context(100), policy="strict")
    assert found.dropped_images == 0


def test_text_that_is_too_long_without_any_picture_is_refused() -> None:
    messages = (*conversation(1), message("assistant", "A"), message("user", "x" * 3000))
    with pytest.raises(ContextLengthExceeded):
        fitted(messages)


def trimmed(messages: tuple[InputMessage, ...], tokens: int, reserve: int = 0) -> Fitted:
    return fit(messages, Budget("keep_last", 7, reserve, drop_turns=True), context(tokens), encode)


def said(found: Fitted) -> list[str | InputImage]:
    return [part for message in found.messages for part in message.parts]


TALK = (
    message("system", "S"),
    *(
        each
        for turn in range(1, 9)
        for each in (message("user", f"q{turn}"), message("assistant", f"a{turn}"))
    ),
    message("user", "q9"),
)  # a token for `<s>`, one for S, four for each turn, two for the last question


@pytest.mark.parametrize("kept", range(9))
def test_as_few_of_the_oldest_turns_are_left_out_as_need_be(kept: int) -> None:
    found = trimmed(TALK, 1 + 1 + 4 * kept + 2)
    turns = [text for turn in range(9 - kept, 9) for text in (f"q{turn}", f"a{turn}")]
    assert said(found) == ["S", *turns, "q9"]
    assert found.dropped_messages == 16 - 2 * kept


def test_turns_leave_room_for_the_answer() -> None:
    assert said(trimmed(TALK, 12, reserve=4)) == ["S", "q8", "a8", "q9"]
    assert said(trimmed(TALK, 11, reserve=4)) == ["S", "q9"]


def test_the_newest_turn_is_never_left_out() -> None:
    found = trimmed((*TALK, message("user", "x" * 50)), 40)
    assert said(found) == ["S", "x" * 50]
    with pytest.raises(ContextLengthExceeded):
        trimmed((*TALK, message("user", "x" * MODEL.context_length)), 40)


def test_pictures_are_left_out_before_turns() -> None:
    messages = conversation(1, 1, 1)
    whole = 1 + 3 * MODEL.tokens_per_image + 5
    found = trimmed(messages, whole - 2 * MODEL.tokens_per_image + 2 * LEFT_OUT)
    assert (found.dropped_images, found.dropped_messages, shown(found)) == (2, 0, ["3"])
    found = trimmed(messages, whole - 2 * MODEL.tokens_per_image)
    assert (found.dropped_images, found.dropped_messages, shown(found)) == (2, 4, ["3"])


def test_no_turn_is_left_out_unless_it_is_asked_for() -> None:
    assert fitted(TALK, context(20)).messages == TALK


def test_a_greeting_goes_with_the_oldest_turn() -> None:
    found = trimmed((message("assistant", "Hello!"), *TALK[1:]), 4)
    assert said(found) == ["q9"]
    assert found.dropped_messages == 17
