"""What the demo model learns to answer: conversations about pictures, as the ids that the gateway sends."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from engine_config.demo_model import scenes
from engine_config.demo_model.material.surroundings import Surroundings
from engine_config.demo_model.material.words import TRAINING, Words
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
TOPIC_WEIGHTS = {"describe": 6, "colour": 4, "shape": 3, "exists": 3, "side": 6, "count": 1}


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
class Around:
    """What stands around questions: system text, earlier turns of words, a note before the question."""

    system: str = ""
    chats: Sequence[tuple[str, str]] = ()
    note: str = ""


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

    def __init__(
        self,
        rng: random.Random,
        tokenizer: PreTrainedTokenizerFast,
        pool: Pool,
        words: Words = TRAINING,
    ) -> None:
        self.rng, self.tokenizer, self.pool = rng, tokenizer, pool
        self.words = Surroundings(rng, words)
        self.image = tokenizer.convert_tokens_to_ids("<image>")
        self.known: dict[str, list[int]] = {}

    def apart(self, size: int, pictures: int, longest: int = 0) -> Batch:
        """Return `size` rows of questions about one picture, or two; they do not see each other.

        Up to `longest` characters stand before the questions, and with any the questions have other words.
        """
        rows, shown = [], []
        for _ in range(size):
            chosen = self._choose(pictures)
            known = [number for number in chosen if number < len(self.pool.scenes)]
            count = 5 if pictures == 2 else 10 if known else 4
            questions = [self._ask(chosen) for _ in range(count)]
            if longest:
                questions = [self._reworded(question) for question in questions]
            named = [self.pool.scenes[number] if number in known else None for number in chosen]
            rows.append(self._apart(questions, named, self._around(longest) if longest else Around()))
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

    def albums(self, size: int) -> Batch:
        """Return `size` conversations with a new picture in each of two to seven turns, most with notes."""
        rows, shown = [], []
        noted, count = self.rng.random() < 0.7, self.rng.randint(2, 7)
        for _ in range(size):
            chosen = [self._choose(1)[0] for _ in range(count)]
            forms = self.words.words.notes  # the first is Open WebUI's
            form = self.rng.choice((forms[0], self.rng.choice(forms[:-8]), None))
            turns = []
            for number in chosen:
                question = self._ask([number])
                text = self._reworded(question).text if self.rng.random() < 0.4 else question.text
                note = self.words.noted(250, form) if noted else ""
                turns.append(Turn(1, self.rng.random() < 0.9, note + text, question.answer))
            rows.append(self._talk(turns, whole=True))
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
        """Return `count` pictures, some of them no scenes; of two, none has a kind of shape of the other."""
        made, rng = self.pool.scenes, self.rng
        others = len(self.pool.pixels) - len(made)
        while True:
            chosen = [rng.randrange(len(made)) for _ in range(count)]
            kinds = [shape.kind for number in chosen for shape in made[number].shapes]
            if count < 2 or len(kinds) == len(set(kinds)):
                break
        if others and rng.random() < (0.2 if count == 2 else 0.25):
            for place in rng.choice(((0,), (1,), (0, 1))) if count == 2 else range(count):
                chosen[place] = len(made) + rng.randrange(others)
        return chosen

    def _ask(self, chosen: list[int]) -> scenes.Question:
        rng, made = self.rng, self.pool.scenes
        known = [made[number] for number in chosen if number < len(made)]
        if len(chosen) == 2:
            first, second = known if len(known) == 2 else scenes.sample_pair(rng)
            if len(known) != 1:
                question = scenes.ask_which(rng, first, second)
                return question if known else replace(question, answer=scenes.REFUSAL)
            # One of the two is no scene: it has none of the shapes.
            question = scenes.ask_which(rng, known[0], known[0])
            is_first = chosen[0] < len(made)
            return replace(question, answer="The first." if is_first else "The second.")
        scene = known[0] if known else scenes.sample_scene(rng)
        topic = rng.choices(list(TOPIC_WEIGHTS), list(TOPIC_WEIGHTS.values()))[0]
        if topic == "side" and len(scene.shapes) == 1:
            topic = "describe"
        question = scenes.ask(rng, scene, topic)
        return question if known else replace(question, answer=scenes.REFUSAL)

    def _reworded(self, question: scenes.Question) -> scenes.Question:
        """Return `question` perhaps in other words, perhaps with a greeting or an ending."""
        rng = self.rng
        text = self.words.rephrased(question) if rng.random() < 0.55 else question.text
        return replace(question, text=self.words.put(text) if rng.random() < 0.5 else text)

    def _around(self, longest: int) -> Around:
        rng, words = self.rng, self.words
        system = words.system(rng.randint(20, longest * 3 // 2)) if rng.random() < 0.35 else ""
        chats = [words.chat(longest // 2) for _ in range(rng.randint(1, 3))] if rng.random() < 0.25 else []
        return Around(system, chats, words.noted(longest) if rng.random() < 0.7 else "")

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
            text = question.text
            if rng.random() < 0.3:
                text = self.words.noted(120) + self._reworded(question).text
            turns.append(Turn(shown, rng.random() < 0.5, text, question.answer))
        return turns[: rng.randint(len(chosen) or 1, 3)]

    def _apart(
        self,
        questions: list[scenes.Question],
        shown: Sequence[scenes.Scene | None],
        around: Around = Around(),  # frozen
    ) -> Row:
        form, system = self._form()
        system = around.system or system
        text, ids = f"{system}{form.after_system}" if system else "", [1]
        for said, answered in around.chats if form is not HUB else ():
            ids += [*self._encode(f"{text}USER: {said}{form.before_reply} {answered}"), 2]
            text = ""
        ids += self._encode(f"{text}USER: ")
        for number in range(len(shown)):
            ids += (self._encode("\n") if number else []) + [self.image] * GRID * GRID
        note, start = self._noted(around.note)
        ids += note
        row = Row(ids, [IGNORED] * len(ids), [0] * len(ids), [math.nan] * len(ids))
        places = self._places(shown[0]) if len(shown) == 1 and shown[0] else {}
        for owner, question in enumerate(questions, start=1):
            asked = f"{start}{question.text}{form.before_reply}"
            skipped = len(self._encode("\n")) if start and note else 0
            self._append(row, asked, question.answer, owner, places=places, skipped=skipped)
        return row

    def _noted(self, note: str) -> tuple[list[int], str]:
        """Return the ids of a line and `note`, and what a question begins with that is encoded by itself.

        No token spans two lines or two words: what is encoded in two parts is what is encoded at once.
        """
        if not note:
            return [], "\n"
        if note.endswith("\n"):
            return self._encode(f"\n{note}"), "\n"
        return self._encode(f"\n{note.removesuffix(' ')}"), ""

    def _places(self, scene: scenes.Scene) -> dict[int, float]:
        """Return by the token of its name how far to the right each shape is, from -1 to 1."""
        names = (self._encode(shape.kind) for shape in scene.shapes)
        return {
            token: scenes.across(scene, shape) for (token,), shape in zip(names, scene.shapes, strict=True)
        }

    def _talk(self, turns: list[Turn], *, whole: bool = False) -> Row:
        form, system = self._form()
        form = CARD if whole and form is HUB else form
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
        *,
        places: Mapping[int, float] = MappingProxyType({}),
        skipped: int = 0,
    ) -> None:
        """Append a question and its answer, without the first `skipped` tokens."""
        known = len(self._encode(asked)) - skipped
        piece = [*self._encode(f"{asked} {answer}"), 2][skipped:]
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
        if text in self.known:
            return self.known[text]
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if len(text) < 160 and len(self.known) < 200_000:
            self.known[text] = ids
        return ids
