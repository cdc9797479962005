"""The pictures that the demo model learns from, and what lies where on them."""

import io
import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from engine_config.demo_model import scenes

SIDE, GRID = 112, 8  # pixels and patches along a side while it learns
ENLARGED = 3  # 336 px, as the hub's LLaVA-1.5 takes them
PAD_COLOUR = (122, 116, 104)
IGNORED = -100  # the label of what is not learned


@dataclass(frozen=True, slots=True)
class Pool:
    """Scenes with their pictures: uint8, (scenes, 112, 112, 3), and what lies on each patch, (scenes, 64).

    `places` is how far to the right the middle of the shape on the patch is, from -1 to 1.
    """

    scenes: list[scenes.Scene]
    pixels: Tensor
    kinds: Tensor
    colours: Tensor
    places: Tensor


def photograph(rng: random.Random, scene: scenes.Scene) -> Image.Image:
    """Draw `scene` at some size, sometimes through JPEG, and fit it as the gateway does, to 112 px."""
    side = rng.choice((112, 128, 160, 200, 256, 336, 400))
    picture = scenes.draw(scene, side)
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=rng.randint(70, 95))
        picture = Image.open(buffer).convert("RGB")
    square = Image.new("RGB", (max(picture.size),) * 2, PAD_COLOUR)
    square.paste(picture, ((square.width - picture.width) // 2, (square.height - picture.height) // 2))
    whole = (SIDE * ENLARGED, SIDE * ENLARGED)
    return square.resize(whole, Image.Resampling.BICUBIC).reduce(ENLARGED)


def make_pool(rng: random.Random, size: int) -> Pool:
    """Make `size` scenes and their pictures."""
    made = [scenes.sample_scene(rng) for _ in range(size)]
    pixels = torch.empty((size, SIDE, SIDE, 3), dtype=torch.uint8)
    kinds = torch.empty((size, GRID * GRID), dtype=torch.int64)
    colours = torch.empty_like(kinds)
    places = torch.empty(kinds.shape)
    for row, scene in enumerate(made):
        pixels[row] = torch.from_numpy(np.array(photograph(rng, scene)))
        kinds[row], colours[row], places[row] = _what_lies_where(scene)
    return Pool(made, pixels, kinds, colours, places)


def _what_lies_where(scene: scenes.Scene) -> tuple[Tensor, Tensor, Tensor]:
    """Label each patch with the shape that covers a seventh of it; of less, nothing is asked."""
    kinds = torch.full((GRID, GRID), len(scenes.KINDS))
    colours = torch.full((GRID, GRID), len(scenes.COLOURS))
    places = torch.zeros(GRID, GRID)
    left, top = ((1 - side) / 2 * SIDE for side in (scene.width, scene.height))
    for shape in scene.shapes:
        mask = Image.new("L", (SIDE, SIDE))
        outline = [(left + x * SIDE, top + y * SIDE) for x, y in scenes.outline(shape)]
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        covered = torch.from_numpy(np.array(mask.reduce(SIDE // GRID)))
        kinds[covered > 0] = colours[covered > 0] = IGNORED
        kinds[covered > 36] = scenes.KINDS.index(shape.kind)
        colours[covered > 36] = list(scenes.COLOURS).index(shape.colour)
        places[covered > 36] = scenes.across(scene, shape)
    return kinds.flatten(), colours.flatten(), places.flatten()
