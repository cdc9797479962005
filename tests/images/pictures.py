"""Pictures in every encoding, made by Pillow or byte by byte where Pillow has no writer for it."""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg")
_TILE = 512  # pixels of noise on each side: as many random numbers as a picture has pixels take seconds


def photograph(name: str) -> Image.Image:
    return Image.open(Path(skimage.data.__file__).parent / name).convert("RGB")


def noisy(width: int, height: int) -> Image.Image:
    """Return a photograph of that size with a camera's noise."""
    smooth = np.asarray(photograph("rocket.jpg").resize((width, height)), dtype=np.int16)
    tile = np.random.default_rng(0).normal(0, 8, (_TILE, _TILE, 3)).astype(np.int16)
    noise = np.tile(tile, (-(-height // _TILE), -(-width // _TILE), 1))[:height, :width]
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def url_of(image: Image.Image, format_: str = "PNG", **options: Any) -> str:
    return data_url(encoded(image, format_, **options))


def png(size: tuple[int, int], depth: int, colour_type: int, rows: bytes, trns: bytes = b"") -> bytes:
    """Write a PNG chunk by chunk (https://www.w3.org/TR/png-3/); `rows` have no filter bytes yet."""
    step = len(rows) // size[1]
    lines = b"".join(b"\0" + rows[at : at + step] for at in range(0, len(rows), step))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0))]
    chunks += [(b"tRNS", trns)] if trns else []
    chunks += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    """Return the absolute difference, channel by channel, of 255."""
    return np.abs(np.asarray(one, dtype=np.int16) - np.asarray(other, dtype=np.int16))
