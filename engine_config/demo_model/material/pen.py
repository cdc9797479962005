"""What drawings have in common: colours, fonts, made-up words."""

import random
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Size = tuple[int, int]
RGB = tuple[int, int, int]

LETTERS = "etaoinshrdlucmfwypvbgkqjxz"
PALETTES: tuple[tuple[RGB, ...], ...] = (
    ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75)),
    ((66, 133, 244), (219, 68, 55), (244, 180, 0), (15, 157, 88), (171, 71, 188), (0, 172, 193)),
    ((228, 26, 28), (55, 126, 184), (77, 175, 74), (152, 78, 163), (255, 127, 0), (255, 255, 51)),
    ((220, 30, 35), (30, 160, 60), (40, 70, 220), (245, 220, 40), (250, 130, 20), (140, 50, 180)),
)


@cache
def font_of(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=height)


def any_colour(rng: random.Random) -> RGB:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def light(rng: random.Random) -> RGB:
    """Return the colour of a page: white, nearly white, or seldom dark."""
    if rng.random() < 0.5:
        return 255, 255, 255
    low = 0 if rng.random() < 0.25 else 215
    return rng.randint(low, low + 40), rng.randint(low, low + 40), rng.randint(low, low + 40)


def ink(ground: RGB) -> RGB:
    return (20, 20, 20) if sum(ground) > 380 else (230, 230, 230)


def palette(rng: random.Random) -> list[RGB]:
    if rng.random() < 0.3:
        return [any_colour(rng) for _ in range(6)]
    chosen = list(rng.choice(PALETTES))
    rng.shuffle(chosen)
    return chosen * 2 if rng.random() < 0.7 else [chosen[0]] * 12


def words(rng: random.Random, count: int) -> str:
    return " ".join(
        "".join(rng.choices(LETTERS, range(26, 0, -1), k=rng.randint(1, 9))) for _ in range(count)
    )


def write(
    pen: ImageDraw.ImageDraw, rng: random.Random, box: tuple[int, int, int, int], height: int, fill: RGB
) -> None:
    """Fill `box` with lines of text, ragged at the right."""
    font = font_of(height)
    left, top, right, bottom = box
    step = round(height * rng.uniform(1.2, 1.7))
    for y in range(top, bottom - height, step):
        wide = right - left if rng.random() < 0.8 else rng.randint(1, max(1, right - left))
        count = max(1, round(wide / height / 2.6))
        if rng.random() < 0.92:
            pen.text((left, y), words(rng, count)[: max(2, round(wide / height * 1.9))], fill=fill, font=font)


def page_of(rng: random.Random, size: Size) -> tuple[Image.Image, ImageDraw.ImageDraw, RGB]:
    """Return an empty page, a pen on it and the colour of its text."""
    ground = light(rng)
    picture = Image.new("RGB", size, ground)
    return picture, ImageDraw.Draw(picture), ink(ground)


def picture_of(values: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
