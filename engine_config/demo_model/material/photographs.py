"""Photographs that come with packages: the demo model learns from some that they are no drawn scenes.

scikit-image's are there with the development dependencies; those of scikit-learn and matplotlib are used if
they are installed. Those in `UNSEEN` are for the evaluation only.
"""

import random
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

TRAINING = (
    "skimage/data/brick.png",
    "skimage/data/camera.png",
    "skimage/data/chessboard_RGB.png",
    "skimage/data/coffee.png",
    "skimage/data/coins.png",
    "skimage/data/color.png",
    "skimage/data/grass.png",
    "skimage/data/horse.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png",
    "skimage/data/moon.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/motorcycle_right.png",
    "skimage/data/phantom.png",
    "skimage/data/text.png",
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)
UNSEEN = (
    "skimage/data/astronaut.png",
    "skimage/data/cell.png",
    "skimage/data/chelsea.png",
    "skimage/data/clock_motion.png",
    "skimage/data/gravel.png",
    "skimage/data/logo.png",
    "skimage/data/microaneurysms.png",
    "skimage/data/page.png",
    "skimage/data/retina.jpg",
    "skimage/data/rocket.jpg",
)
FACES = "skimage/data/lfw_subset.npy"  # a hundred faces, 25 x 25 pixels, then a hundred that are none


@cache
def load(names: Sequence[str]) -> tuple[Image.Image, ...]:
    """Return the photographs of `names` that are installed, by RGB."""
    paths = [path for name in names if (path := _path(name))]
    return tuple(Image.open(path).convert("RGB") for path in paths)


@cache
def faces() -> tuple[Image.Image, ...]:
    path = _path(FACES)
    values = np.load(path)[:100] if path else ()
    return tuple(Image.fromarray((255 * face).astype(np.uint8)).convert("RGB") for face in values)


def crop(rng: random.Random, picture: Image.Image, smallest: float = 0.25) -> Image.Image:
    """Return a part of `picture` at least `smallest` as wide and high, perhaps mirrored."""
    width, height = (max(24, round(side * rng.uniform(smallest, 1))) for side in picture.size)
    if rng.random() < 0.25:
        width, height = picture.size
    left, top = rng.randint(0, max(0, picture.width - width)), rng.randint(0, max(0, picture.height - height))
    part = picture.crop((left, top, left + width, top + height))
    return ImageOps.mirror(part) if rng.random() < 0.5 else part


def altered(rng: random.Random, pictures: Sequence[Image.Image]) -> Image.Image:
    """Return a photograph made of one or two of `pictures`: cropped, turned, recoloured, mixed."""
    part = crop(rng, rng.choice(pictures))
    part.thumbnail((448, 448))
    if rng.random() < 0.25:
        part = part.rotate(rng.choice((90, 180, 270)), expand=True)
    if rng.random() < 0.2:
        other = crop(rng, rng.choice(pictures)).resize(part.size)
        if rng.random() < 0.5:
            part = Image.blend(part, other, rng.uniform(0.3, 0.7))
        else:
            part.paste(other.resize((part.width // 2 + 1, part.height)), (part.width // 2, 0))
    if rng.random() < 0.6:
        for enhance in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
            part = enhance(part).enhance(rng.uniform(0.5, 1.6))
    if rng.random() < 0.3:
        red, green, blue = part.split()
        part = Image.merge("RGB", rng.sample((red, green, blue), 3))
    if rng.random() < 0.12:
        part = ImageOps.grayscale(part).convert("RGB")
    if rng.random() < 0.05:
        part = ImageOps.invert(part)
    if rng.random() < 0.15:
        part = part.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
    return part


def _path(name: str) -> Path | None:
    package, _, inside = name.partition("/")
    found = find_spec(package)
    places = (found.submodule_search_locations or ()) if found else ()
    path = Path(next(iter(places), "")) / inside
    return path if path.is_file() else None
