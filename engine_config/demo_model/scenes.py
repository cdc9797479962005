"""Scenes of simple shapes, the questions one can ask about them, and the right answers.

Lengths are fractions of the picture's longer side, so one scene can be drawn at any size.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, dist, pi, sin

from PIL import Image, ImageChops, ImageDraw

RGB = tuple[int, int, int]

KINDS = ("circle", "square", "triangle", "star")
COLOURS: dict[str, RGB] = {
    "red": (220, 30, 35),
    "green": (30, 160, 60),
    "blue": (40, 70, 220),
    "yellow": (245, 220, 40),
    "orange": (250, 130, 20),
    "purple": (140, 50, 180),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
REFUSAL = "I only know simple shapes."  # the answer to a picture that is no drawn scene
NUMBERS = ("Zero", "One", "Two", "Three")

SMALLEST_RADIUS, LARGEST_RADIUS = 0.09, 0.2
SIDEWAYS_GAP = 0.08  # between two centres, so that left and right are never a matter of opinion
CONTRAST = 110.0  # Euclidean RGB distance between a background and every shape on it


@dataclass(frozen=True, slots=True)
class Shape:
    kind: str
    colour: str
    fill: RGB
    x: float
    y: float
    radius: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Shapes from left to right on a background that runs from one colour to another."""

    width: float
    height: float
    background: tuple[RGB, RGB]
    speckle: int  # the seed of its noise, 0 for none
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Question:
    topic: str
    text: str
    answer: str


def sample_scene(rng: random.Random, kinds: list[str] | None = None) -> Scene:
    """Return a scene of one to three shapes; `kinds` says which, where the caller cares."""
    short = 1.0 if rng.random() < 0.5 else rng.uniform(0.5, 1.0)
    width, height = (1.0, short) if rng.random() < 0.5 else (short, 1.0)
    kinds = kinds or rng.sample(KINDS, rng.randint(1, 3))
    colours = rng.sample(list(COLOURS), len(kinds))
    fills = [_jitter(rng, COLOURS[colour]) for colour in colours]
    while (places := _places(rng, len(kinds), width, height)) is None:
        pass
    shapes = [
        Shape(kind, colour, fill, *place)
        for kind, colour, fill, place in zip(kinds, colours, fills, places, strict=True)
    ]
    start = _background(rng, fills)
    end = _background(rng, fills, near=start) if rng.random() < 0.2 else start
    speckle = rng.randrange(1, 1 << 30) if rng.random() < 0.2 else 0
    ordered = tuple(sorted(shapes, key=lambda shape: shape.x))
    return Scene(width, height, (start, end), speckle, ordered)


def draw(scene: Scene, longer_side: int) -> Image.Image:
    """Draw `scene` as an RGB picture whose longer side has `longer_side` pixels."""
    size = (round(scene.width * longer_side), round(scene.height * longer_side))
    start, end = scene.background
    picture = Image.new("RGB", size, start)
    if start != end:
        picture.paste(end, (0, 0), Image.linear_gradient("L").resize(size))
    if scene.speckle:
        grain = random.Random(scene.speckle).randbytes(size[0] * size[1])
        noise = Image.frombytes("L", size, grain).point(lambda value: 112 + value // 8)
        picture = ImageChops.add(picture, Image.merge("RGB", [noise] * 3), offset=-128)
    pen = ImageDraw.Draw(picture)
    for shape in scene.shapes:
        corners = [(x * longer_side, y * longer_side) for x, y in outline(shape)]
        pen.polygon(corners, fill=shape.fill)
    return picture


def outline(shape: Shape) -> list[tuple[float, float]]:
    """Return the corners of `shape`; a circle has 48."""
    corners, first, inner = {
        "circle": (48, 0.0, 1.0),
        "square": (4, pi / 4, 1.0),
        "triangle": (3, -pi / 2, 1.0),
        "star": (10, -pi / 2, 0.42),
    }[shape.kind]
    points = []
    for corner in range(corners):
        angle = first + 2 * pi * corner / corners
        reach = shape.radius * (inner if corner % 2 else 1.0)
        points.append((shape.x + reach * cos(angle), shape.y + reach * sin(angle)))
    return points


def across(scene: Scene, shape: Shape) -> float:
    """Return how far to the right the middle of `shape` is on the padded square, from -1 to 1."""
    return 2 * shape.x - scene.width


def ask(rng: random.Random, scene: Scene, topic: str | None = None) -> Question:
    """Return a question about `scene` (on `topic`, one of TOPICS, where given) and its answer."""
    if topic is None:
        topic = rng.choice([name for name in TOPICS if name != "side" or len(scene.shapes) > 1])
    text, answer = TOPICS[topic](rng, scene)
    return Question(topic, text, answer)


def ask_which(rng: random.Random, first: Scene, second: Scene) -> Question:
    """Return a question that only one of two pictures answers; they share no kind of shape."""
    scene = rng.choice((first, second))
    kind = rng.choice(scene.shapes).kind
    noun = rng.choice(("picture", "image"))
    verb = rng.choice(("has", "has", "shows"))
    answer = "The first." if scene is first else "The second."
    return Question("which picture", f"Which {noun} {verb} the {kind}?", answer)


def sample_pair(rng: random.Random) -> tuple[Scene, Scene]:
    """Return two scenes that share no kind of shape."""
    kinds = rng.sample(KINDS, rng.randint(2, len(KINDS)))
    cut = rng.randint(max(1, len(kinds) - 3), min(3, len(kinds) - 1))
    return sample_scene(rng, kinds[:cut]), sample_scene(rng, kinds[cut:])


def _describe(rng: random.Random, scene: Scene) -> tuple[str, str]:
    question = rng.choice(
        (
            "What is in the picture?",
            "What is in the image?",
            "What's in this image?",
            "What's in this picture?",
            "What is in this image?",
            "Describe the picture.",
            "Describe the image.",
            "Describe this image.",
            "What do you see?",
            "What does the image show?",
            "What are these?",
        )
    )
    *others, last = [_with_article(shape.name) for shape in scene.shapes]
    listed = f"{', '.join(others)} and {last}" if others else last
    return question, f"{listed[0].upper()}{listed[1:]}."


def _colour(rng: random.Random, scene: Scene) -> tuple[str, str]:
    shape = rng.choice(scene.shapes)
    word = rng.choice(("colour", "color"))
    nouns = [f"the {shape.kind}"] * 3 + ["the shape", "it"] * (len(scene.shapes) == 1)
    return f"What {word} is {rng.choice(nouns)}?", f"{shape.colour.capitalize()}."


def _count(rng: random.Random, scene: Scene) -> tuple[str, str]:
    noun = rng.choice(("shapes", "shapes", "objects"))
    place = rng.choice(("there", "in the picture", "in the image", "there in the picture"))
    return f"How many {noun} are {place}?", f"{NUMBERS[len(scene.shapes)]}."


def _shape(rng: random.Random, scene: Scene) -> tuple[str, str]:
    shape = rng.choice(scene.shapes)
    form = rng.choice(("What shape is {}?", "Which shape is {}?", "What is the {} shape?"))
    return form.format(shape.colour), f"The {shape.kind}."


def _exists(rng: random.Random, scene: Scene) -> tuple[str, str]:
    names = [shape.name for shape in scene.shapes]
    if rng.random() < 0.5:
        asked = rng.choice(names)
    else:
        # Half of what is not there differs from a shape that is in one word only, the hard case.
        shape = rng.choice(scene.shapes)
        near = [f"{shape.colour} {kind}" for kind in KINDS]
        near += [f"{colour} {shape.kind}" for colour in COLOURS]
        far = [f"{colour} {kind}" for colour in COLOURS for kind in KINDS]
        absent = [name for name in (near if rng.random() < 0.7 else far) if name not in names]
        asked = rng.choice(absent)
    return f"Is there {_with_article(asked)}?", "Yes." if asked in names else "No."


def _side(rng: random.Random, scene: Scene) -> tuple[str, str]:
    one, other = rng.sample(scene.shapes, 2)
    side = rng.choice(("left", "right"))
    full = rng.random() < 0.3
    names = (one.name, other.name) if full else (one.kind, other.kind)
    form = rng.choice(("Which is {}, the {} or the {}?", "Which shape is {}, the {} or the {}?"))
    first = (one.x < other.x) == (side == "left")
    return form.format(side, *names), f"The {(one if first else other).kind}."


TOPICS: dict[str, Callable[[random.Random, Scene], tuple[str, str]]] = {
    "describe": _describe,
    "colour": _colour,
    "count": _count,
    "shape": _shape,
    "exists": _exists,
    "side": _side,
}


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _jitter(rng: random.Random, colour: RGB) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-12, 12))) for value in colour)
    return red, green, blue


def _background(rng: random.Random, fills: list[RGB], near: RGB | None = None) -> RGB:
    while True:
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        if near and dist(colour, near) > 90:
            continue
        if all(dist(colour, fill) > CONTRAST for fill in fills):
            return colour


def _places(
    rng: random.Random, count: int, width: float, height: float
) -> list[tuple[float, float, float]] | None:
    largest = min(LARGEST_RADIUS, 0.42 * min(width, height))
    places: list[tuple[float, float, float]] = []
    for _ in range(count):
        radius = rng.uniform(SMALLEST_RADIUS, largest)
        x = rng.uniform(radius, width - radius)
        y = rng.uniform(radius, height - radius)
        for other_x, other_y, other_radius in places:
            apart = dist((x, y), (other_x, other_y)) - radius - other_radius
            if apart < 0.01 or abs(x - other_x) < SIDEWAYS_GAP:
                return None
        places.append((x, y, radius))
    return places
