"""Screens, pages and signs: what shows text."""

import random

from PIL import Image, ImageDraw

from engine_config.demo_model.material.pen import (
    RGB,
    Size,
    any_colour,
    font_of,
    ink,
    light,
    page_of,
    palette,
    words,
    write,
)
from engine_config.demo_model.material.textures import spectrum


def table(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, fill = page_of(rng, size)
    width, height = size
    row, column = rng.randint(14, 40), rng.randint(30, 110)
    for number, y in enumerate(range(0, height, row)):
        if number == 0 or rng.random() < 0.2:
            pen.rectangle((0, y, width, y + row), fill=rng.choice(palette(rng)))
        pen.line((0, y, width, y), fill=(150, 150, 150))
        for x in range(0, width, column):
            font = font_of(max(8, row // 2))
            pen.text((x + 4, y + 3), words(rng, 2)[: column // 9], fill=fill, font=font)
    for x in range(0, width, column):
        pen.line((x, 0, x, height), fill=(150, 150, 150))
    return picture


def window(rng: random.Random, size: Size) -> Image.Image:
    """Draw a desktop with windows of text, buttons and boxes."""
    width, height = size
    picture = Image.new("RGB", size, any_colour(rng))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.randint(1, 4)):
        wide, high = round(width * rng.uniform(0.45, 1)), round(height * rng.uniform(0.45, 1))
        left, top = rng.randint(0, width - wide), rng.randint(0, height - high)
        ground = light(rng)
        bar, title = rng.randint(10, 26), any_colour(rng)
        pen.rectangle((left, top, left + wide, top + high), fill=ground, outline=(90, 90, 90))
        pen.rectangle((left, top, left + wide, top + bar), fill=title)
        font = font_of(max(8, bar * 2 // 3))
        pen.text((left + 8, top + 1), words(rng, 3)[:16], fill=ink(title), font=font)
        for button in range(3):
            x = left + wide - (button + 1) * bar
            pen.rectangle((x + 3, top + 3, x + bar - 3, top + bar - 3), outline=ink(title))
        write(
            pen,
            rng,
            (left + 8, top + bar + 6, left + wide - 6, top + high - 4),
            rng.randint(8, 15),
            ink(ground),
        )
        if rng.random() < 0.5:
            x, y = left + rng.randint(5, wide // 2), top + rng.randint(bar, high // 2 + bar)
            pen.rectangle((x, y, x + wide // 4, y + high // 8), fill=any_colour(rng))
    return picture


def terminal(rng: random.Random, size: Size) -> Image.Image:
    dark = rng.random() < 0.8
    ground: RGB = (rng.randint(0, 45), rng.randint(0, 45), rng.randint(0, 55)) if dark else (250, 250, 245)
    picture = Image.new("RGB", size, ground)
    pen = ImageDraw.Draw(picture)
    height = rng.randint(9, 16)
    font = font_of(height)
    colours = [(90, 220, 120), (220, 220, 220), (240, 200, 90), (110, 170, 250), (240, 110, 110)]
    for y in range(4, size[1], height + 4):
        x = 6 + 14 * rng.choice((0, 0, 1, 2, 3))
        for _ in range(rng.randint(0, 6)):
            word = words(rng, 1)
            pen.text((x, y), word, fill=rng.choice(colours) if dark else ink(ground), font=font)
            x += (len(word) + 1) * height * 5 // 9
    return picture


def web_page(rng: random.Random, size: Size) -> Image.Image:
    picture, pen, fill = page_of(rng, size)
    width, height = size
    head = height // rng.randint(7, 12)
    pen.rectangle((0, 0, width, head), fill=any_colour(rng))
    columns = rng.randint(1, 3)
    for column in range(columns):
        left, right = width * column // columns + 6, width * (column + 1) // columns - 6
        y = head + 8
        while y < height - 20:
            high = rng.randint(20, max(21, height // 3))
            if rng.random() < 0.4:
                block = spectrum(rng, (max(8, right - left), high)) if rng.random() < 0.5 else None
                if block:
                    picture.paste(block, (left, y))
                else:
                    pen.rectangle((left, y, right, y + high), fill=any_colour(rng))
            else:
                write(pen, rng, (left, y, right, y + high), rng.randint(8, 13), fill)
            y += high + 8
    return picture


def page(rng: random.Random, size: Size) -> Image.Image:
    """Draw a page of text, small or large."""
    picture, pen, fill = page_of(rng, size)
    if rng.random() < 0.3:
        fill = any_colour(rng)
    edge = rng.randint(4, 40)
    write(pen, rng, (edge, edge, size[0] - edge, size[1] - edge), rng.choice((8, 10, 12, 16, 24, 40)), fill)
    return picture


def sign(rng: random.Random, size: Size) -> Image.Image:
    """Draw a word or two in large letters."""
    picture = Image.new("RGB", size, any_colour(rng))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.randint(1, 3)):
        word = words(rng, 1)[:7]
        word = word if rng.random() < 0.5 else word.upper()
        font = font_of(rng.randint(40, 110))
        pen.text(
            (rng.randint(0, size[0] // 3), rng.randint(0, size[1] * 2 // 3)), word, any_colour(rng), font=font
        )
    return picture
