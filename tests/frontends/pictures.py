"""Ten turns: a new picture each."""

from itertools import product

KINDS = ("circle", "square", "triangle", "star")
COLOURS = ("red", "blue", "green")
TURNS = list(product(KINDS, COLOURS))[:10]  # kind, colour
QUESTION = "What is in the picture?"
