"""Textures, noise, grounds, and what looks a little like a photograph."""

import random
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from engine_config.demo_model.material.pen import Size, any_colour, page_of, picture_of


def noise(rng: random.Random, size: Size) -> Image.Image:
    """Draw noise: of each pixel or of blocks, grey or coloured, even or bell-shaped."""
    make = np.random.default_rng(rng.getrandbits(32))
    block = rng.choice((1, 1, 2, 4, 8, 16, 32))
    shape = (size[1] // block + 1, size[0] // block + 1, rng.choice((1, 3)))
    if rng.random() < 0.5:
        values = make.uniform(0, 255, shape)
    else:
        values = make.normal(rng.uniform(60, 200), rng.uniform(35, 90), shape)
    picture = picture_of(np.broadcast_to(values, (*shape[:2], 3)))
    how = rng.choice((Image.Resampling.NEAREST, Image.Resampling.BICUBIC))
    return picture.resize((shape[1] * block, shape[0] * block), how).crop((0, 0, *size))


def gradient(rng: random.Random, size: Size) -> Image.Image:
    """Draw nothing but a ground: of one colour, or running from one to another."""
    start, end = any_colour(rng), any_colour(rng)
    kind = rng.random()
    if kind < 0.3:
        return Image.new("RGB", size, start)
    ramp = Image.linear_gradient("L") if kind < 0.75 else Image.radial_gradient("L")
    ramp = ramp.rotate(rng.choice((0, 90, 180, 270))).resize(size)
    return Image.composite(Image.new("RGB", size, start), Image.new("RGB", size, end), ramp)


def spectrum(rng: random.Random, size: Size) -> Image.Image:
    """Draw a cloudy picture, whose spectrum falls off as a photograph's does."""
    make = np.random.default_rng(rng.getrandbits(32))
    side = 128
    across, down = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))
    fall = np.maximum(np.hypot(across, down), 1 / side) ** -rng.uniform(0.8, 2.2)
    layers = [
        np.fft.ifft2(fall * np.exp(2j * np.pi * make.random((side, side)))).real
        for _ in range(rng.choice((1, 3)))
    ]
    base, own = layers[0] / layers[0].std(), rng.uniform(0.1, 0.9)
    channels = [base * (1 - own) + own * layer / layer.std() for layer in (layers * 3)[:3]]
    tint = make.uniform(50, 200, 3)
    values = np.stack(channels, -1) * rng.uniform(20, 80) + tint
    if rng.random() < 0.3:  # bands, as of hills, or of patches on a map
        steps = rng.randint(2, 6)
        values = np.round(values / 255 * steps) / steps * 255
    return picture_of(values).resize(size, Image.Resampling.BICUBIC)


def stripes(rng: random.Random, size: Size) -> Image.Image:
    """Draw a regular pattern: stripes, checks, bricks or dots."""
    picture = Image.new("RGB", size, any_colour(rng))
    pen = ImageDraw.Draw(picture)
    colours = [any_colour(rng) for _ in range(rng.randint(1, 3))]
    step, kind = rng.randint(8, 60), rng.choice(("stripes", "checks", "bricks", "dots", "waves"))
    for number, y in enumerate(range(0, size[1], step)):
        colour = colours[number % len(colours)]
        if kind == "stripes" and number % 2:
            pen.rectangle((0, y, size[0], y + step), fill=colour)
        elif kind == "waves":
            points = [(x, y + step / 3 * sin(x / step)) for x in range(0, size[0] + 8, 8)]
            pen.line(points, fill=colour, width=max(2, step // 4))
        for place, x in enumerate(range(0, size[0], step)):
            if kind == "checks" and (place + number) % 2:
                pen.rectangle((x, y, x + step, y + step), fill=colour)
            elif kind == "dots":
                pen.ellipse((x + step // 4, y + step // 4, x + step * 3 // 4, y + step * 3 // 4), fill=colour)
            elif kind == "bricks":
                left = x * 2 + step * (number % 2) - step
                pen.rectangle((left + 2, y + 2, left + 2 * step - 2, y + step - 2), fill=colour)
    turned = picture.rotate(rng.choice((0, 0, 90, rng.uniform(0, 90))), expand=True)
    wide, high = (turned.width - size[0]) // 2, (turned.height - size[1]) // 2
    if turned.size != picture.size and rng.random() < 0.7:
        turned = turned.crop((wide * 3 // 2, high * 3 // 2, size[0] + wide // 2, size[1] + high // 2))
    return turned if min(turned.size) > 60 else picture


def heap(rng: random.Random, size: Size) -> Image.Image:
    """Draw a heap of overlapping forms, far more than a scene has."""
    picture = Image.new("RGB", size, any_colour(rng))
    pen = ImageDraw.Draw(picture)
    reach = max(size) * rng.uniform(0.05, 0.35)
    for _ in range(rng.randint(14, 70)):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        wide, high = rng.uniform(0.3, 1) * reach, rng.uniform(0.3, 1) * reach
        kind = rng.random()
        if kind < 0.35:
            pen.ellipse((x - wide, y - high, x + wide, y + high), fill=any_colour(rng))
        elif kind < 0.6:
            pen.rectangle((x - wide, y - high, x + wide, y + high), fill=any_colour(rng))
        else:
            corners = [
                (x + rng.uniform(-wide, wide), y + rng.uniform(-high, high)) for _ in range(rng.randint(3, 6))
            ]
            pen.polygon(corners, fill=any_colour(rng))
    return picture.filter(ImageFilter.GaussianBlur(rng.choice((0, 0, 0, 2, 6))))


def landscape(rng: random.Random, size: Size) -> Image.Image:
    """Draw sky, hills and grain, a little as a photograph would show them."""
    picture = gradient(rng, size)
    pen = ImageDraw.Draw(picture)
    for layer in range(rng.randint(1, 5)):
        level = size[1] * (0.3 + 0.15 * layer)
        phase, bend = rng.uniform(0, 6), rng.uniform(0.005, 0.04)
        top = [
            (x, level + size[1] * 0.1 * sin(phase + x * bend) + rng.uniform(-3, 3))
            for x in range(0, size[0] + 4, 4)
        ]
        pen.polygon([(0, size[1]), *top, (size[0], size[1])], fill=any_colour(rng))
    mixed = Image.blend(picture, spectrum(rng, size), rng.uniform(0.05, 0.5))
    return mixed.filter(ImageFilter.GaussianBlur(rng.choice((0, 0, 1, 3))))


def scribble(rng: random.Random, size: Size) -> Image.Image:
    """Draw lines as of a pen, a map or a wiring plan."""
    picture, pen, fill = page_of(rng, size)
    for _ in range(rng.randint(2, 25)):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        points, angle = [(x, y)], rng.uniform(0, 2 * pi)
        square = rng.random() < 0.4
        for _ in range(rng.randint(4, 40)):
            angle = rng.choice((0, pi / 2, pi, -pi / 2)) if square else angle + rng.uniform(-0.8, 0.8)
            x, y = x + 14 * cos(angle), y + 14 * sin(angle)
            points.append((x, y))
        pen.line(
            points, fill=fill if rng.random() < 0.6 else any_colour(rng), width=rng.choice((1, 2, 2, 4, 9))
        )
    return picture
