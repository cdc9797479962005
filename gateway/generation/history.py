"""The history budget: a conversation that outgrew the model keeps its newest pictures.

Chat frontends send every picture of a conversation with every turn. With `keep_last`, the newest that fit
stay, and each older one becomes the text "[image n left out]", n being its number in the conversation. Two
limits count: pictures per request, and the context, of which some is left for the answer. The pictures of the
user's newest message are left out only by `sample`, which keeps evenly spaced ones, as of a camera's frames.
Where the client asks for it, the oldest turns go too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

from gateway.engine.interface import Model
from gateway.errors import ContextLengthExceeded, TooManyImages
from gateway.generation.request import InputImage, InputMessage
from gateway.prompt import tokens
from gateway.settings import History, Overflow

# Tokens of the context that pictures leave for the answer, where the client does not ask for fewer.
RESERVE = 256

Messages = tuple[InputMessage, ...]
Encode = Callable[[Messages], list[int]]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a conversation may hold: `max_images` pictures, and the context less `reserve` tokens.

    `drop_turns` says whether the oldest turns may go; `param` is the field that has it, as errors name it.
    """

    policy: History
    max_images: int
    reserve: int = RESERVE
    drop_turns: bool = False
    param: str = "messages"
    overflow: Overflow = "refuse"

    def least(self, newest: int) -> int:
        """Return how many of the `newest` message's pictures must stay, turns going first if they may."""
        samples = self.overflow == "sample" and self.policy != "strict"
        return min(newest, self.max_images) if samples else newest


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation that fits as far as leaving out can make it, and its prompt."""

    messages: Messages
    ids: list[int]
    dropped_images: int
    dropped_messages: int = 0


def fit(messages: Messages, budget: Budget, model: Model, encode: Encode) -> Fitted:
    """Return as much of the conversation's end as `budget` and the context have room for.

    Pictures go before turns. A turn begins with a message of the user; system messages at the head stay.
    Raises what `_fit_images` does, of the turns that must stay.
    """
    head = len(list(takewhile(lambda message: message.role == "system", messages)))
    starts = _starts(messages, head) if budget.drop_turns else [head]

    def cut(at: int) -> Messages:
        # Made when it is tried: all of them together would take the square of the conversation's memory.
        return messages if starts[at] == head else messages[:head] + messages[starts[at] :]

    # The first that has room, by halving: each try encodes a whole prompt.
    least, most, at = 0, len(starts) - 1, 0
    found: Fitted | None = None
    while least < most:
        tried = _with_room(cut(at), budget, model, encode)
        if tried is None:
            least = at + 1
        else:
            most, found = at, tried
        at = (least + most) // 2
    # `found` is of the cut `least`, unless none had room but perhaps the last, which was not tried.
    fitted = found or _fit_images(cut(least), budget, model, encode, last=True)
    dropped = messages[head : starts[least]]
    return replace(
        fitted,
        dropped_images=fitted.dropped_images + _count(dropped),
        dropped_messages=len(dropped),
    )


def _starts(messages: Messages, head: int) -> list[int]:
    """Return where the conversation after its head may begin: whole, then without its oldest turn, and so on.

    The last is where the newest turn begins.
    """
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    return [head, *(place for place in users if place > head)]


def _with_room(messages: Messages, budget: Budget, model: Model, encode: Encode) -> Fitted | None:
    """Return what `_fit_images` does where it leaves room for an answer, else None."""
    try:
        fitted = _fit_images(messages, budget, model, encode)
    except ContextLengthExceeded:
        return None
    room = model.context_length - tokens.length(fitted.ids, model)
    return fitted if room >= budget.reserve else None


def _fit_images(
    messages: Messages, budget: Budget, model: Model, encode: Encode, *, last: bool = False
) -> Fitted:
    """Return the conversation with as many of its newest pictures as `budget` and the context have room for.

    If nothing else can go, the `last` try samples the newest message's as far as it must.

    Raises TooManyImages where the pictures that must stay are too many, and whatever `encode` raises of a
    prompt that no picture can be left out of any more.
    """
    total, newest = _count(messages), _newest(messages)
    needed = total if budget.policy == "strict" else budget.least(newest)
    if needed > budget.max_images:
        raise _too_many(needed, budget)
    kept = max(needed, min(total, budget.max_images))
    if last and budget.overflow == "sample" and budget.policy != "strict":
        needed = min(needed, 1)
    while True:
        left = _without(messages, total - max(kept, newest))
        if kept < newest:
            left = _sampled(left, kept)
        try:
            ids = encode(left)
            over = tokens.length(ids, model) + budget.reserve - model.context_length
        except ContextLengthExceeded:
            if kept == needed:
                raise
            over = 1
        if over <= 0 or kept == needed:
            return Fitted(left, ids, total - kept)
        kept = max(needed, kept - -(-over // model.tokens_per_image))


def _count(messages: Iterable[InputMessage]) -> int:
    return sum(len(message.images) for message in messages)


def _newest(messages: Messages) -> int:
    """Return how many pictures the user's newest message has."""
    return next((len(message.images) for message in reversed(messages) if message.role == "user"), 0)


def _without(messages: Messages, count: int) -> Messages:
    """Return the messages with text in the place of their first `count` pictures."""
    if count == 0:
        return messages
    number = 0
    left: list[InputMessage] = []
    for message in messages:
        parts: list[str | InputImage] = []
        for part in message.parts:
            number += isinstance(part, InputImage)
            left_out = isinstance(part, InputImage) and number <= count
            parts.append(f"[image {number} left out]" if left_out else part)
        left.append(replace(message, parts=tuple(parts)))
    return tuple(left)


def _sampled(messages: Messages, kept: int) -> Messages:
    """Return the messages with `kept` evenly spaced pictures of the user's newest, its last one among them.

    No text takes the others' places: it would stand between frames that belong together.
    """
    at = next(at for at in range(len(messages) - 1, -1, -1) if messages[at].role == "user")
    parts = messages[at].parts
    places = [place for place, part in enumerate(parts) if isinstance(part, InputImage)]
    end = len(places) - 1
    stay = {places[step * end // max(1, kept - 1)] for step in range(kept - 1)} | {places[end]}
    gone = set(places) - stay
    parts = tuple(part for place, part in enumerate(parts) if place not in gone)
    return (*messages[:at], replace(messages[at], parts=parts), *messages[at + 1 :])


def _too_many(count: int, budget: Budget) -> TooManyImages:
    if budget.policy == "strict":
        whose = f"the request has {count} images; the limit is {budget.max_images}"
        advice = "leave some out, or set `image_history` to `keep_last`"
    else:
        whose = f"the newest message has {count} images; the limit is {budget.max_images}"
        advice = "send fewer"
    return TooManyImages(f"{budget.param}: {whose}; {advice}", param=budget.param)
