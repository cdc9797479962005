"""The demo model was trained on exactly the token ids that the gateway sends."""

import math
import random
from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from engine_config.demo_model import scenes, vocabulary
from engine_config.demo_model.conversations import CARD, HUB, VICUNA, Around, Conversations, Row, Turn
from engine_config.demo_model.pictures import IGNORED, Pool
from engine_config.demo_model.scenes import Question
from gateway.engine.interface import Model
from gateway.engine.vocabulary import TokenizerFile
from gateway.prompt.styles import STYLES
from gateway.prompt.template import END, SLOT, PromptMessage, render
from gateway.prompt.tokens import encode
from tests.prompt.conversations import assistant, system, user

pytestmark = pytest.mark.engine

# Pictures, whether they come before the question, question, answer: as in `Turn`.
TURNS = [
    (1, True, "What colour is the circle?", "Red."),
    (0, True, "How many shapes are there?", "Two."),
    (1, False, "What is in the picture?", "A blue square."),
    (2, True, "Which picture has the star?", "The first."),
    (2, False, "Which picture has a circle?", "The second."),
]

SCENE = scenes.sample_scene(random.Random(1), ["circle", "star"])


class Draw(random.Random):
    """A random source that always picks the given form, and the first system text or none."""

    def __init__(self, form: object, *, with_system: bool) -> None:
        super().__init__(0)
        self._form, self._with_system = form, with_system

    def choices(self, *_: Any, **__: Any) -> list[Any]:
        return [self._form]

    def random(self) -> float:
        return 0.0 if self._with_system else 0.99

    def choice(self, seq: Any) -> Any:
        return seq[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    vocabulary.write(folder)
    return folder


@pytest.fixture(scope="module")
def demo(folder: Path) -> Model:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Model(
        name="demo",
        context_length=4096,
        image_side=336,
        tokens_per_image=64,
        image_token=tokenizer.get_vocab()["<image>"],
        bos_token=1,
        eos_token=2,
        vocabulary_size=tokenizer.get_vocab_size(),
        vocabulary=TokenizerFile(tokenizer),
    )


def conversations_of(folder: Path, style: str, *, with_system: bool) -> Conversations:
    """Return the training's function that makes conversations, for one form."""
    form = {"card": CARD, "vicuna_v1": VICUNA, "hub": HUB}[style]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    no_pool = cast("Pool", None)  # Only its turns are used, and these are given.
    return Conversations(Draw(form, with_system=with_system), tokenizer, no_pool)


def learned(
    folder: Path, style: str, turns: list[tuple[int, bool, str, str]], *, with_system: bool
) -> list[int]:
    """Return the training ids of `turns`, with images at full length."""
    maker = conversations_of(folder, style, with_system=with_system)
    row = maker._talk([Turn(*turn) for turn in turns])
    assert len(row.ids) == len(row.labels) == len(row.owners)
    assert [label for label in row.labels if label != IGNORED]
    return row.ids


def apart(folder: Path, style: str, questions: list[tuple[str, str]]) -> Row:
    """Return the training ids of independent `questions` about one image."""
    maker = conversations_of(folder, style, with_system=False)
    return maker._apart([Question("", *question) for question in questions], [SCENE])


def sent(messages: list[PromptMessage], style: str, demo: Model) -> list[int]:
    """Return the ids up to the last `</s>`, or all ids without one, with images at full length."""
    segments = render(messages, STYLES[style], "asked")
    if END in segments:
        segments = segments[: len(segments) - segments[::-1].index(END)]
    ids = []
    for token in encode(segments, demo):
        ids += [token] * (demo.tokens_per_image if token == demo.image_token else 1)
    return ids


def messages_of(turns: list[tuple[int, bool, str, str]], *, with_system: bool) -> list[PromptMessage]:
    messages = [system("You are a helpful assistant.")] if with_system else []
    for pictures, pictures_first, question, answer in turns:
        slots = (SLOT,) * pictures
        messages.append(user(*slots, question) if pictures_first else user(question, *slots))
        messages.append(assistant(answer))
    return messages


@pytest.mark.parametrize("with_system", [False, True])
@pytest.mark.parametrize("style", ["card", "vicuna_v1"])
def test_a_conversation_is_sent_as_it_was_learned(
    style: str, with_system: bool, folder: Path, demo: Model
) -> None:
    next_one = user("And now?")  # A prompt ends with the user's turn; `sent` cuts it off again.
    messages = [*messages_of(TURNS, with_system=with_system), next_one]
    assert sent(messages, style, demo) == learned(folder, style, TURNS, with_system=with_system)


@pytest.mark.parametrize("with_system", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_a_reply_is_asked_for_where_it_was_learned(
    style: str, with_system: bool, folder: Path, demo: Model
) -> None:
    """The tokenizer does not merge the start of the reply with the prompt's last token."""
    question = messages_of(TURNS[:1], with_system=with_system)[:-1]
    prompt = sent(question, style, demo)
    trained = learned(folder, style, TURNS[:1], with_system=with_system)
    reply = demo.vocabulary.encode("Red.")
    assert trained == [*prompt, *reply, demo.eos_token]


@pytest.mark.parametrize(
    "note",
    ["", "https://example.com/a.png ", "<file/>\n\n", "Question: ", "A note (12).\n", '"""\n4 7\n"""\n'],
)
def test_words_around_a_question_are_learned_as_they_are_sent(note: str, folder: Path, demo: Model) -> None:
    maker = conversations_of(folder, "card", with_system=False)
    around = Around("Be kind.", [("Hello", "Hi!"), ("What now?", "A picture.")], note)
    questions = [("What shape is red?", "The circle."), ("How many shapes are there?", "One.")]
    row = maker._apart([Question("", *question) for question in questions], [SCENE], around)
    for owner, (question, answer) in enumerate(questions, start=1):
        seen = [token for token, whose in zip(row.ids, row.owners, strict=True) if whose in (0, owner)]
        said = [
            system("Be kind."),
            user("Hello"),
            assistant("Hi!"),
            user("What now?"),
            assistant("A picture."),
        ]
        prompt = encode(render([*said, user(SLOT, note + question)], STYLES["card"], "asked"), demo)
        slots = [id_ for token in prompt for id_ in [token] * (64 if token == demo.image_token else 1)]
        assert seen == [*slots, *demo.vocabulary.encode(answer), demo.eos_token]


@pytest.mark.parametrize("style", STYLES)
def test_questions_that_stand_apart_are_each_what_is_sent(style: str, folder: Path, demo: Model) -> None:
    questions = [("What shape is red?", "The circle."), ("How many shapes are there?", "One.")]
    row = apart(folder, style, questions)
    for owner, (question, answer) in enumerate(questions, start=1):
        seen = [token for token, whose in zip(row.ids, row.owners, strict=True) if whose in (0, owner)]
        prompt = sent([user(SLOT, question)], style, demo)
        assert seen == [*prompt, *demo.vocabulary.encode(answer), demo.eos_token]


def test_a_question_that_names_a_shape_comes_with_its_place_and_an_answer_does_not(folder: Path) -> None:
    row = apart(folder, "card", [("Which is left, the star or the circle?", "The star.")])
    places = {shape.kind: 2 * shape.x - SCENE.width for shape in SCENE.shapes}
    assert [place for place in row.places if not math.isnan(place)] == [places["star"], places["circle"]]
