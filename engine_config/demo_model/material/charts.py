"""Charts."""

import random
from math import cos, pi, sin

from PIL import Image, ImageDraw

from engine_config.demo_model.material.pen import RGB, Size, any_colour, font_of, ink, page_of, palette, words


def axes(pen: ImageDraw.ImageDraw, rng: random.Random, size: Size, fill: RGB) -> tuple[int, int, int, int]:
    """Draw what frames a chart, and return the box that its data fill."""
    width, height = size
    box = (width // rng.randint(7, 14), height // rng.randint(7, 14), width * 19 // 20, height * 7 // 8)
    left, top, right, bottom = box
    font = font_of(max(8, height // 26))
    if rng.random() < 0.5:
        for step in range(1, 6):
            y = bottom - (bottom - top) * step // 6
            pen.line((left, y, right, y), fill=tuple((value + 300) // 3 for value in fill))
    if rng.random() < 0.85:
        pen.line((left, bottom, right, bottom), fill=fill, width=rng.randint(1, 2))
        pen.line((left, top, left, bottom), fill=fill, width=rng.randint(1, 2))
    if rng.random() < 0.75:
        for step in range(6):
            pen.text((2, bottom - (bottom - top) * step // 6 - 6), str(step * 10), fill=fill, font=font)
    if rng.random() < 0.6:
        pen.text((width // 3, 3), words(rng, 3)[:22], fill=fill, font=font)
    if rng.random() < 0.6:
        pen.text((width // 3, bottom + 6), words(rng, 4)[:22], fill=fill, font=font)
    return box


def bars(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, fill = page_of(rng, size)
    left, top, right, bottom = axes(pen, rng, size, fill)
    colours, count = palette(rng), rng.randint(2, 12)
    across = rng.random() < 0.3
    low, high = (top, bottom) if across else (left, right)
    step = (high - low) / count
    for number in range(count):
        start = low + step * (number + rng.uniform(0.08, 0.15))
        end = start + step * rng.uniform(0.5, 0.75)
        share = rng.uniform(0.06, 1)
        colour = colours[number % len(colours)]
        if across:
            pen.rectangle((left, start, left + (right - left) * share, end), fill=colour)
        else:
            pen.rectangle((start, bottom - (bottom - top) * share, end, bottom), fill=colour)
    return picture


def lines(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, fill = page_of(rng, size)
    left, top, right, bottom = axes(pen, rng, size, fill)
    for colour in palette(rng)[: rng.randint(1, 4)]:
        count, share = rng.randint(4, 60), rng.random()
        points = []
        for number in range(count):
            share = min(1.0, max(0.0, share + rng.uniform(-0.25, 0.25)))
            points.append((left + (right - left) * number / (count - 1), bottom - (bottom - top) * share))
        pen.line(points, fill=colour, width=rng.randint(1, 5))
        if rng.random() < 0.3:
            for x, y in points:
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
    return picture


def scatter(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, fill = page_of(rng, size)
    left, top, right, bottom = axes(pen, rng, size, fill)
    colours, radius = palette(rng), rng.uniform(1.5, 6)
    for _ in range(rng.randint(25, 200)):
        x, y = rng.uniform(left, right), rng.uniform(top, bottom)
        reach = radius * rng.uniform(0.6, 1.4)
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=rng.choice(colours[:3]))
    return picture


def pie(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, fill = page_of(rng, size)
    width, height = size
    colours, count = palette(rng), rng.randint(2, 7)
    radius = min(size) * rng.uniform(0.25, 0.46)
    x, y = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.45, 0.55)
    angle, shares = rng.uniform(0, 360), [rng.uniform(0.3, 1) for _ in range(count)]
    outline = fill if rng.random() < 0.4 else None
    for number, share in enumerate(shares):
        end = angle + 360 * share / sum(shares)
        colour = colours[number % len(colours)] if colours[0] != colours[1] else any_colour(rng)
        pen.pieslice((x - radius, y - radius, x + radius, y + radius), angle, end, colour, outline)
        middle = (angle + end) / 360 * pi
        if rng.random() < 0.5:
            font = font_of(max(9, height // 24))
            spot = (x + radius * 0.7 * cos(middle) - 8, y + radius * 0.7 * sin(middle) - 6)
            pen.text(spot, f"{100 * share / sum(shares):.0f}%", fill=ink(colour), font=font)
        angle = end
    return picture
