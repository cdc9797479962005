"""What is asked: pictures of ours, ten short questions, and the words that a right answer has."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from openai import OpenAI

from engine_config.demo_model import scenes

GREY = (150, 150, 150)
SIDE = 672  # pixels


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a picture of shapes, each a kind and a colour, from left to right."""

    text: str
    shapes: tuple[tuple[str, str], ...]
    words: frozenset[str]  # of which a right answer has every one, in lower case

    def right(self, answer: str) -> bool:
        said = "".join(letter if letter.isalpha() else " " for letter in answer.lower()).split()
        return self.words <= set(said)


def _question(text: str, words: str, *shapes: tuple[str, str]) -> Question:
    return Question(text, shapes, frozenset(words.split()))


DESCRIBE = _question("What is in the image?", "red circle blue square", ("circle", "red"), ("square", "blue"))

TEN = (
    _question("What colour is the circle?", "red", ("circle", "red")),
    _question("What colour is the square?", "green", ("square", "green")),
    _question("What colour is the triangle?", "yellow", ("triangle", "yellow")),
    _question("What colour is the star?", "blue", ("star", "blue")),
    _question("What colour is the square?", "blue", ("circle", "red"), ("square", "blue")),
    _question("Is there a red circle?", "yes", ("circle", "red"), ("square", "blue")),
    _question("Is there a green star?", "no", ("circle", "red"), ("square", "blue")),
    _question("What shape is blue?", "square", ("circle", "red"), ("square", "blue")),
    _question(
        "How many shapes are there?", "three", ("circle", "red"), ("star", "blue"), ("square", "green")
    ),
    _question("What shape is yellow?", "triangle", ("triangle", "yellow"), ("circle", "black")),
)


def picture(shapes: Sequence[tuple[str, str]]) -> str:
    """Return a picture of the shapes, side by side on grey, as a data URL."""
    step = 1 / len(shapes)
    placed = tuple(
        scenes.Shape(kind, colour, scenes.COLOURS[colour], (place + 0.5) * step, 0.5, min(0.2, 0.36 * step))
        for place, (kind, colour) in enumerate(shapes)
    )
    assert all(left.x < right.x for left, right in pairwise(placed))
    buffer = io.BytesIO()
    scenes.draw(scenes.Scene(1.0, 1.0, (GREY, GREY), 0, placed), SIDE).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def ask(client: OpenAI, question: Question) -> str:
    """Return the model's greedy answer."""
    reply = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": picture(question.shapes)}},
                    {"type": "text", "text": question.text},
                ],
            }
        ],
        temperature=0,
        max_tokens=64,
    )
    return (reply.choices[0].message.content or "").strip()
