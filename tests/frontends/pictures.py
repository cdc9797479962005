"""Ten turns: a new picture each."""

from itertools import product

from playwright.async_api import FilePayload

from tests.shapes import encoded

KINDS = ("circle", "square", "triangle", "star")
COLOURS = ("red", "blue", "green")
TURNS = list(product(KINDS, COLOURS))[:10]  # kind, colour
RIGHT = [f"A {colour} {kind}." for kind, colour in TURNS]
QUESTION = "What is in the picture?"


def file(kind: str, colour: str) -> FilePayload:
    """Return a picture as a person chooses it on their disk."""
    return FilePayload(name=f"{colour}-{kind}.png", mimeType="image/png", buffer=encoded(kind, colour))
