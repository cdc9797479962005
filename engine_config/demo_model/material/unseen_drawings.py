"""Kinds of drawing for the evaluation only."""

import random

import numpy as np
from PIL import Image

from engine_config.demo_model.material.charts import axes
from engine_config.demo_model.material.pen import (
    PALETTES,
    Size,
    any_colour,
    font_of,
    ink,
    page_of,
    palette,
    picture_of,
    words,
    write,
)


def stacked_bars(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, fill = page_of(rng, size)
    left, top, right, bottom = axes(pen, rng, size, fill)
    count, colours = rng.randint(3, 8), palette(rng)
    step = (right - left) / count
    for number in range(count):
        y = float(bottom)
        for colour in colours[:3]:
            high = (bottom - top) * rng.uniform(0.05, 0.33)
            pen.rectangle(
                (left + step * (number + 0.15), y - high, left + step * (number + 0.8), y), fill=colour
            )
            y -= high
    return picture


def areas(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, fill = page_of(rng, size)
    left, top, right, bottom = axes(pen, rng, size, fill)
    for layer, colour in enumerate(palette(rng)[:3]):
        height = (bottom - top) * (0.9 - 0.28 * layer)
        points = [(x, bottom - height * rng.uniform(0.6, 1)) for x in range(left, right, 12)]
        pen.polygon([(left, bottom), *points, (points[-1][0], bottom)], fill=colour)
    return picture


def donut(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, _ = page_of(rng, size)
    x, y, radius = size[0] / 2, size[1] / 2, min(size) * rng.uniform(0.3, 0.45)
    angle, count = rng.uniform(0, 360), rng.randint(3, 6)
    for number in range(count):
        colour = rng.choice(PALETTES)[number % 6]
        pen.pieslice(
            (x - radius, y - radius, x + radius, y + radius), angle, angle + 360 / count, fill=colour
        )
        angle += 360 / count
    radius /= 2
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=picture.getpixel((0, 0)))
    return picture


def chat(rng: random.Random, size: Size) -> Image.Image:
    """Draw a chat on a phone: bubbles left and right."""
    picture, pen, _ = page_of(rng, size)
    y, width = 8, size[0]
    colours = (any_colour(rng), any_colour(rng))
    while y < size[1]:
        mine = rng.random() < 0.5
        wide, high = round(width * rng.uniform(0.3, 0.7)), rng.randint(24, 70)
        left = width - wide - 8 if mine else 8
        pen.rounded_rectangle((left, y, left + wide, y + high), 9, fill=colours[mine])
        write(pen, rng, (left + 7, y + 4, left + wide - 7, y + high), 11, ink(colours[mine]))
        y += high + 10
    return picture


def form(rng: random.Random, size: Size) -> Image.Image:
    """Draw a form to fill in: labels, fields, a button."""
    picture, pen, fill = page_of(rng, size)
    font = font_of(12)
    for y in range(10, size[1] - 50, 44):
        pen.text((12, y), words(rng, 2)[:20], fill=fill, font=font)
        pen.rectangle((12, y + 16, size[0] * 4 // 5, y + 34), outline=(130, 130, 130), fill=(255, 255, 255))
    pen.rounded_rectangle((12, size[1] - 40, 110, size[1] - 12), 6, fill=rng.choice(PALETTES)[0])
    pen.text((30, size[1] - 33), words(rng, 1)[:8], fill=(255, 255, 255), font=font)
    return picture


def code(rng: random.Random, size: Size) -> Image.Image:
    """Draw a square code of black and white modules, as a QR code is."""
    count = rng.choice((21, 25, 29, 33))
    values = np.random.default_rng(rng.getrandbits(32)).integers(0, 2, (count, count)) * 255
    for top, left in ((0, 0), (0, count - 7), (count - 7, 0)):
        values[top : top + 7, left : left + 7] = 0
        values[top + 1 : top + 6, left + 1 : left + 6] = 255
        values[top + 2 : top + 5, left + 2 : left + 5] = 0
    modules = Image.fromarray(values.astype(np.uint8)).resize((min(size) - 40,) * 2, Image.Resampling.NEAREST)
    picture = Image.new("RGB", (min(size),) * 2, (255, 255, 255))
    picture.paste(modules, (20, 20))
    return picture


def rings(rng: random.Random, size: Size) -> Image.Image:
    """Draw the waves of two sources that cross each other."""
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    values = np.zeros((size[1], size[0]))
    for _ in range(2):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        values += np.sin(np.hypot(across - x, down - y) / rng.uniform(3, 9))
    tint = np.array(any_colour(rng)) / 2
    return picture_of(values[..., None] * 55 + 60 + tint)
