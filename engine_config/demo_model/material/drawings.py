"""Drawings that are no drawn scenes: charts, screens, pages of text, noise, textures.

`TRAINING` is what the demo model learns to refuse; `UNSEEN` are other kinds, for its evaluation only.
"""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from PIL import Image

from engine_config.demo_model.material import charts, screens, textures, unseen_drawings
from engine_config.demo_model.material.pen import Size

Drawer = Callable[[random.Random, Size], Image.Image]

TRAINING: Mapping[str, Drawer] = MappingProxyType(
    {
        "bars": charts.bars,
        "bars again": charts.bars,
        "lines": charts.lines,
        "scatter": charts.scatter,
        "pie": charts.pie,
        "table": screens.table,
        "window": screens.window,
        "terminal": screens.terminal,
        "web page": screens.web_page,
        "page": screens.page,
        "sign": screens.sign,
        "noise": textures.noise,
        "gradient": textures.gradient,
        "spectrum": textures.spectrum,
        "stripes": textures.stripes,
        "heap": textures.heap,
        "landscape": textures.landscape,
        "scribble": textures.scribble,
    }
)
UNSEEN: Mapping[str, Drawer] = MappingProxyType(
    {
        "stacked bars": unseen_drawings.stacked_bars,
        "areas": unseen_drawings.areas,
        "donut": unseen_drawings.donut,
        "chat": unseen_drawings.chat,
        "form": unseen_drawings.form,
        "code": unseen_drawings.code,
        "rings": unseen_drawings.rings,
    }
)


def draw(rng: random.Random, kinds: Mapping[str, Drawer]) -> Image.Image:
    """Draw a picture of one of `kinds`, at some size."""
    size = (rng.randint(160, 448), rng.randint(160, 448))
    if rng.random() < 0.4:
        size = (max(size),) * 2
    return kinds[rng.choice(list(kinds))](rng, size)
