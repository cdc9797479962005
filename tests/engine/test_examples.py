"""The programs of `examples/` run unchanged on the real engine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Gateway
from tests.shapes import encoded

pytestmark = pytest.mark.engine

EXAMPLES = Path(__file__).parents[2] / "examples"
SHAPES = EXAMPLES.parent / "docs/shapes.png"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with two pictures."""
    for kind in ("star", "circle"):
        (tmp_path / f"{kind}.png").write_bytes(encoded(kind, "blue"))
    return tmp_path


def test_there_are_no_other_examples() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"batch.py", "caption_folder.py", "chat.py", "compare.py", "structured.py"}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) < 40


def test_a_folder_is_captioned(gateway: Gateway, pictures: Path) -> None:
    assert (
        run(gateway, "caption_folder.py", pictures) == "circle.png: A blue circle.\nstar.png: A blue star.\n"
    )


def test_two_pictures_are_compared(gateway: Gateway, pictures: Path) -> None:
    question = "Which picture has the star?"
    assert (
        run(gateway, "compare.py", pictures / "star.png", pictures / "circle.png", question) == "The first.\n"
    )


def test_an_answer_is_an_object(gateway: Gateway, pictures: Path) -> None:
    # The demo model was not trained on JSON: its content is often wrong.
    printed = run(gateway, "structured.py", pictures / "star.png")
    assert re.fullmatch(
        r"Shape\(colour='(red|green|blue|yellow)', kind='(circle|square|triangle|star)'\)\n", printed
    )


def test_a_chat_remembers_its_picture(gateway: Gateway) -> None:
    questions = "What is in the image?\nWhat colour is the circle?\n"
    assert run(gateway, "chat.py", SHAPES, typed=questions) == "A red circle and a blue square.\nRed.\n"


def test_a_batch_is_answered(gateway: Gateway) -> None:
    questions = ("What is in the image?", "What colour is the circle?")
    assert run(gateway, "batch.py", SHAPES, *questions) == (
        f"{questions[0]} A red circle and a blue square.\n{questions[1]} Red.\n"
    )


def run(gateway: Gateway, name: str, *arguments: str | Path, typed: str = "") -> str:
    """Return what the example prints; its error output must be empty."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env=os.environ | {"BASE_URL": gateway.api},
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
