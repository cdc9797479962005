"""The pictures that the servers are asked about: the demo model's scenes, as cameras and screens give them.

All of a picture's shapes lie in its middle square, so that a server that crops sees them too. The same seed
gives the same bytes; no two seeds give the same picture.
"""

import io
import random
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from engine_config.demo_model.scenes import Scene, draw, sample_scene

MIDDLE = 128  # what is added to a picture to leave it as it is
SENSOR_NOISE = 9.0  # standard deviation, of 255, at 4000 pixels' width: a telephone's camera in a room
WORDS = (
    "open",
    "save",
    "file",
    "edit",
    "view",
    "window",
    "help",
    "total",
    "item",
    "price",
    "order",
    "date",
    "note",
)


@dataclass(frozen=True, slots=True)
class Shot:
    """An encoded picture, and what is to be seen in it."""

    data: bytes
    media_type: str
    scene: Scene


def photograph_jpeg(seed: str, width: int, height: int) -> Shot:
    """Return a JPEG with a sensor's noise, of which less is left the more a picture was shrunk.

    At 12 megapixels (4000 x 3000) it has 3 to 4 MB, as a telephone's has.
    """
    rng = random.Random(seed)
    scene = middle_scene(rng, height / width)
    noise = ImageChops.offset(_noise(width, height), rng.randrange(width), rng.randrange(height))
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 1  # maker; upright
    ImageChops.add(draw(scene, width), noise, offset=-MIDDLE).save(out, "JPEG", quality=90, exif=exif)
    return Shot(out.getvalue(), "image/jpeg", scene)


def screenshot_png(seed: str) -> Shot:
    """Return 2000 x 1250 pixels of windows and lines of text, faint enough to leave the shapes to be seen."""
    rng = random.Random(seed)
    scene = middle_scene(rng, 1250 / 2000)
    picture = draw(scene, 2000)
    relief = Image.merge("RGB", [_windows(rng, picture.size)] * 3)
    out = io.BytesIO()
    ImageChops.add(picture, relief, offset=-MIDDLE).save(out, "PNG")
    return Shot(out.getvalue(), "image/png", scene)


def middle_scene(rng: random.Random, ratio: float) -> Scene:
    """Return a scene of width 1 and height `ratio` whose shapes all lie in its middle square."""
    while True:
        scene = sample_scene(rng)
        fits = scene.width == 1.0 and 0.92 * ratio <= scene.height <= ratio
        if fits and all(abs(shape.x - 0.5) + shape.radius <= ratio / 2 for shape in scene.shapes):
            # Speckle is drawn point by point: a 12-megapixel one would take longer than all the rest.
            return replace(scene, height=ratio, speckle=0)


@cache
def _noise(width: int, height: int) -> Image.Image:
    """Return noise around MIDDLE, drawn once: moved along, it is another picture's."""
    deviation = SENSOR_NOISE * (width / 4000) ** 0.5
    noise = np.random.default_rng(0).standard_normal((height, width, 3), dtype=np.float32)
    return Image.fromarray(np.clip(MIDDLE + deviation * noise, 0, 255).astype(np.uint8))


def _windows(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    desk = Image.new("L", size, MIDDLE)
    pen = ImageDraw.Draw(desk)
    font = ImageFont.load_default(size=15)
    for _ in range(12):
        left, top = rng.randrange(size[0] // 2), rng.randrange(size[1] // 2)
        right, bottom = left + rng.randrange(600, 1000), top + rng.randrange(400, 650)
        shade = MIDDLE + rng.choice((-6, -4, 4, 6))
        pen.rectangle((left, top, right, bottom), fill=shade, outline=shade - 12)
        for row in range(30):
            pen.line((left, top + row, right, top + row), fill=shade + row // 3 - 5)  # a title bar's gradient
        for line in range(top + 36, bottom - 20, 19):
            text = " ".join(rng.choices(WORDS, k=rng.randrange(4, 24)))
            pen.text((left + 12, line), text[: (right - left) // 8], fill=shade - 22, font=font)
    return desk
