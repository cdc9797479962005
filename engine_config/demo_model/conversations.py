"""What the demo model learns to answer: conversations about pictures, as the ids that the gateway sends."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from engine_config.demo_model import scenes
from engine_config.demo_model.pictures import GRID, IGNORED, Pool

SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You answer questions about pictures. Be concise.",
    "You are a polite assistant. Answer in as few words as you can.",
)
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
ABOUT = "I am a small demo model. I know simple shapes: send me a picture of some and ask about it."
SMALL_TALK = (
    ("Hello", "Hello! Send me a picture of shapes and ask about it."),
    ("Hello!", "Hello! Send me a picture of shapes and ask about it."),
    ("Hi", "Hello! Send me a picture of shapes and ask about it."),
    ("Hi!", "Hello! Send me a picture of shapes and ask about it."),
    ("Who are you?", ABOUT),
    ("What are you?", ABOUT),
    ("What can you do?", ABOUT),
    ("What can I ask?", ABOUT),
    ("How are you?", "Fine, thanks."),
    ("Thanks.", "You are welcome."),
    ("Thank you.", "You are welcome."),
    *(
        (question, "I see no picture.")
        for question in (
            "What is in the picture?",
            "What is in the image?",
            "What's in this image?",
            "Describe the picture.",
            "How many shapes are there?",
            "What colour is the circle?",
            "Which shape is red?",
        )
    ),
)

# Some things are harder to learn than others.
TOPIC_WEIGHTS = {"describe": 4, "colour": 4, "shape": 3, "exists": 3, "side": 6, "count": 1}


@dataclass(frozen=True, slots=True)
class Form:
    """How a conversation is written down: one of the gateway's prompt styles."""

    system: str
    after_system: str
    before_reply: str
    after_reply: str


CARD = Form("", "\n", "\nASSISTANT:", "</s>")
VICUNA = Form(VICUNA_SYSTEM, " ", " ASSISTANT:", "</s>")
HUB = Form("", " ", " ASSISTANT:", " ")


@dataclass(frozen=True, slots=True)
class Turn:
    pictures: int
    pictures_first: bool
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence: token ids, what is learned of them, and to which question each belongs (0: to all).

    Where a question names a shape, `places` says how far to the right that one is; elsewhere it is NaN.
    """

    ids: list[int]
    labels: list[int]
    owners: list[int]
    places: list[float]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences, (sequences, tokens), and the pictures in them as indices of a pool."""

    ids: Tensor
    labels: Tensor
    places: Tensor
    positions: Tensor
    mask: Tensor  # (sequences, 1, tokens, tokens): whether one token sees another
    pictures: list[int]


class Conversations:
    """Makes conversations about the pictures of a pool, and their token ids."""

    def __init__(self, rng: random.Random, tokenizer: PreTrainedTokenizerFast, pool: Pool) -> None:
        self.rng, self.tokenizer, self.pool = rng, tokenizer, pool
        self.image = tokenizer.convert_tokens_to_ids("<image>")
        self.known: dict[str, list[int]] = {}

    def apart(self, size: int, pictures: int) -> Batch:
        """Return `size` rows of questions about one picture, or two; they do not see each other."""
        rows, shown = [], []
        for _ in range(size):
            chosen = self._choose(pictures)
            questions = [self._ask(chosen) for _ in range(10 if pictures == 1 else 5)]
            rows.append(self._apart(questions, [self.pool.scenes[number] for number in chosen]))
            shown += chosen
        return self._batch(rows, shown)

    def talks(self, size: int) -> Batch:
        """Return `size` conversations of one to three turns, with a picture, two or none."""
        rows, shown = [], []
        for _ in range(size):
            chosen = self._choose(self.rng.choices((0, 1, 2), (0.1, 0.6, 0.3))[0])
            rows.append(self._talk(self._turns(chosen)))
            shown += chosen
        return self._batch(rows, shown)

    def _batch(self, rows: list[Row], pictures: list[int]) -> Batch:
        length = max(len(row.ids) for row in rows)

        def padded(values: list[int], filler: int) -> list[int]:
            return values + [filler] * (length - len(values))

        owners = torch.tensor([padded(row.owners, -1) for row in rows])
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        mask = causal & ((owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None]))
        return Batch(
            torch.tensor([padded(row.ids, 0) for row in rows]),
            torch.tensor([padded(row.labels, IGNORED) for row in rows]),
            torch.tensor([row.places + [math.nan] * (length - len(row.ids)) for row in rows]),
            # A token comes as many places after the start as there are tokens that it sees before it.
            mask.sum(-1) - 1,
            mask[:, None],
            pictures,
        )

    def _choose(self, count: int) -> list[int]:
        """Return `count` pictures; where there are two, they share no kind of shape."""
        made = self.pool.scenes
        while True:
            chosen = [self.rng.randrange(len(made)) for _ in range(count)]
            kinds = [shape.kind for number in chosen for shape in made[number].shapes]
            if count < 2 or len(kinds) == len(set(kinds)):
                return chosen

    def _ask(self, chosen: list[int]) -> scenes.Question:
        first, *others = (self.pool.scenes[number] for number in chosen)
        if others:
            return scenes.ask_which(self.rng, first, others[0])
        topic = self.rng.choices(list(TOPIC_WEIGHTS), list(TOPIC_WEIGHTS.values()))[0]
        if topic == "side" and len(first.shapes) == 1:
            topic = "describe"
        return scenes.ask(self.rng, first, topic)

    def _turns(self, chosen: list[int]) -> list[Turn]:
        rng = self.rng
        if not chosen:
            return [Turn(0, True, *rng.choice(SMALL_TALK)) for _ in range(3)]
        both = len(chosen) == 2 and rng.random() < 0.5
        turns = []
        for number in range(3):
            # Where they are not shown at once, a second comes later, and "the picture" is the newest.
            newest = chosen if both else chosen[: number + 1][-1:]
            question = self._ask(newest)
            shown = len(chosen) if both and not number else int(not both and number < len(chosen))
            turns.append(Turn(shown, rng.random() < 0.5, question.text, question.answer))
        return turns[: rng.randint(len(chosen) or 1, 3)]

    def _apart(self, questions: list[scenes.Question], shown: list[scenes.Scene]) -> Row:
        form, system = self._form()
        opening = f"{system}{form.after_system}USER: " if system else "USER: "
        ids = [1, *self._encode(opening)]
        for number in range(len(shown)):
            ids += (self._encode("\n") if number else []) + [self.image] * GRID * GRID
        row = Row(ids, [IGNORED] * len(ids), [0] * len(ids), [math.nan] * len(ids))
        places = self._places(shown[0]) if len(shown) == 1 else {}
        for owner, question in enumerate(questions, start=1):
            self._append(row, f"\n{question.text}{form.before_reply}", question.answer, owner, places)
        return row

    def _places(self, scene: scenes.Scene) -> dict[int, float]:
        """Return by the token of its name how far to the right each shape is, from -1 to 1."""
        names = (self._encode(shape.kind) for shape in scene.shapes)
        return {
            token: scenes.across(scene, shape) for (token,), shape in zip(names, scene.shapes, strict=True)
        }

    def _talk(self, turns: list[Turn]) -> Row:
        form, system = self._form()
        row = Row([1], [IGNORED], [0], [math.nan])
        text = system + form.after_system if system else ""
        for turn in turns:
            text += "USER: "
            if not turn.pictures_first and turn.pictures:
                text += turn.question
            for number in range(turn.pictures):
                text += "\n" if number or not turn.pictures_first else ""
                slots = self._encode(text) + [self.image] * GRID * GRID
                row.ids.extend(slots)
                row.labels.extend([IGNORED] * len(slots))
                row.owners.extend([0] * len(slots))
                row.places.extend([math.nan] * len(slots))
                text = ""
            if turn.pictures_first or not turn.pictures:
                text += "\n" * (turn.pictures > 0) + turn.question
            self._append(row, text + form.before_reply, turn.answer, owner=0)
            text = ""
            if form is HUB:
                # The hub's form has a space where the others have </s>.
                break
        return row

    def _append(
        self,
        row: Row,
        asked: str,
        answer: str,
        owner: int,
        places: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        known = len(self._encode(asked))
        piece = [*self._encode(f"{asked} {answer}"), 2]
        row.ids.extend(piece)
        row.labels.extend([IGNORED] * known + piece[known:])
        row.owners.extend([owner] * len(piece))
        named = [places.get(token, math.nan) for token in piece[:known]]
        row.places.extend(named + [math.nan] * (len(piece) - known))

    def _form(self) -> tuple[Form, str]:
        form = self.rng.choices((CARD, VICUNA, HUB), (0.84, 0.08, 0.08))[0]
        return form, self.rng.choice(SYSTEMS) if self.rng.random() < 0.12 else form.system

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        if text not in self.known:
            if len(self.known) > 200_000:
                self.known.clear()
            self.known[text] = self.tokenizer.encode(
                text, add_special_tokens=False, split_special_tokens=True
            )
        return self.known[text]
