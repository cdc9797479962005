"""The pictures that the demo model learns from, and what lies where on them."""

import io
import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageChops, ImageDraw
from torch import Tensor

from engine_config.demo_model import scenes
from engine_config.demo_model.material import drawings, photographs

SIDE, GRID = 112, 8  # pixels and patches along a side while it learns
ENLARGED = 3  # 336 px, as the hub's LLaVA-1.5 takes them
PAD_COLOUR = (122, 116, 104)
IGNORED = -100  # the label of what is not learned


@dataclass(frozen=True, slots=True)
class Pool:
    """Pictures: uint8, (pictures, 112, 112, 3), and what lies on each patch, (pictures, 64).

    Those of `scenes` come first, then those that are no drawn scenes, on whose patches nothing is asked.
    `places` is how far to the right the middle of the shape on the patch is, from -1 to 1.
    """

    scenes: list[scenes.Scene]
    pixels: Tensor
    kinds: Tensor
    colours: Tensor
    places: Tensor


def photograph(rng: random.Random, scene: scenes.Scene) -> Image.Image:
    """Draw `scene` at some size, as a picture to learn from."""
    picture = scenes.draw(scene, rng.choice((112, 128, 160, 200, 256, 336, 400)))
    if rng.random() < 0.06:
        grain = Image.effect_noise(picture.size, rng.uniform(6, 24))
        picture = ImageChops.add(picture, Image.merge("RGB", [grain] * 3), offset=-128)
    return fitted(rng, picture)


def foreign(rng: random.Random) -> Image.Image:
    """Return a picture that is no drawn scene, to learn from: a photograph, or a drawing of another kind."""
    photos = photographs.load(photographs.TRAINING)
    if rng.random() < 0.5 and photos:
        return fitted(rng, photographs.altered(rng, photos))
    if rng.random() < 0.06 and photographs.faces():
        return fitted(rng, photographs.altered(rng, photographs.faces()).resize((200, 200)))
    return fitted(rng, drawings.draw(rng, drawings.TRAINING))


def fitted(rng: random.Random, picture: Image.Image) -> Image.Image:
    """Send `picture` sometimes through JPEG, and fit it as the gateway does, to 112 px."""
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=rng.randint(50, 95))
        picture = Image.open(buffer).convert("RGB")
    square = Image.new("RGB", (max(picture.size),) * 2, PAD_COLOUR)
    square.paste(picture, ((square.width - picture.width) // 2, (square.height - picture.height) // 2))
    whole = (SIDE * ENLARGED, SIDE * ENLARGED)
    return square.resize(whole, Image.Resampling.BICUBIC).reduce(ENLARGED)


def make_pool(rng: random.Random, size: int, others: int = 0) -> Pool:
    """Make `size` scenes and their pictures, and `others` pictures that are no drawn scenes."""
    made = [_varied(rng, scenes.sample_scene(rng)) for _ in range(size)]
    pixels = torch.empty((size + others, SIDE, SIDE, 3), dtype=torch.uint8)
    kinds = torch.full((size + others, GRID * GRID), IGNORED)
    colours = torch.full_like(kinds, IGNORED)
    places = torch.zeros(kinds.shape)
    for row, scene in enumerate(made):
        pixels[row] = torch.from_numpy(np.array(photograph(rng, scene)))
        kinds[row], colours[row], places[row] = _what_lies_where(scene)
    for row in range(size, size + others):
        pixels[row] = torch.from_numpy(np.array(foreign(rng)))
    return Pool(made, pixels, kinds, colours, places)


def _varied(rng: random.Random, scene: scenes.Scene) -> scenes.Scene:
    """Return `scene`, or one with larger shapes: as the `crop` fit shows it, or its only one enlarged."""
    chance, short = rng.random(), min(scene.width, scene.height)
    if chance < 0.15 and len(scene.shapes) == 1:
        radius = rng.uniform(scenes.LARGEST_RADIUS, 0.47) * short
        x, y = (rng.uniform(radius, side - radius) for side in (scene.width, scene.height))
        return replace(scene, shapes=(replace(scene.shapes[0], x=x, y=y, radius=radius),))
    left, top = (scene.width - short) / 2, (scene.height - short) / 2
    shapes = tuple(
        replace(shape, x=(shape.x - left) / short, y=(shape.y - top) / short, radius=shape.radius / short)
        for shape in scene.shapes
    )
    inside = all(s.radius < s.x < 1 - s.radius and s.radius < s.y < 1 - s.radius for s in shapes)
    return replace(scene, width=1.0, height=1.0, shapes=shapes) if inside and chance > 0.5 else scene


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
