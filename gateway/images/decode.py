"""Decodes an image to the pixels that a viewer would show: upright, on white, 8 bits per channel.

Colour profiles are not applied.
"""

import contextlib
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageChops
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gateway.images.header import broken_is_an_image_error

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a TIFF tag
# Orientations in which the right or bottom edge of the original becomes the left or top one.
_MIRRORED_X, _MIRRORED_Y, _SWAPPED = frozenset({2, 3, 6, 7}), frozenset({3, 4, 7, 8}), frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class Rendition:
    """An upright RGB image, in which each pixel stands for `factor` x `factor` pixels of the original.

    `size` is the size of the upright original; `origin` is the position of its top left corner in these
    pixels. It is not 0 if the size is no multiple of the factor, so that the last column or row stands for
    less, and the orientation moves that column or row to the front.
    """

    pixels: Image.Image
    size: tuple[int, int]
    factor: int = 1
    origin: tuple[float, float] = (0.0, 0.0)


def decode(image: ImageFile, *, shrink: int) -> Rendition:
    """Return the first frame as a viewer would show it, shrunk by at most `shrink`.

    JPEGs are shrunk by their decoder, at a reduced DCT scale; other formats by averaging. Raises ImageError.
    """
    width, height = image.size
    with broken_is_an_image_error():
        factor = _draft(image, shrink)
        _scale_transparent_colour(image)
        image.load()
        if factor == 1:
            width, height = image.size  # a HEIC may differ from its header
        seen = _as_seen(image)
    orientation = _orientation(image)
    if factor == 1 and shrink > 1:
        factor = shrink
        seen = seen.reduce(factor)
    # The edges of the original lie within the last pixel, at its size divided by the factor.
    slack_x, slack_y = seen.width - width / factor, seen.height - height / factor
    if orientation in _UPRIGHT:
        seen = seen.transpose(_UPRIGHT[orientation])
    if orientation in _SWAPPED:
        width, height, slack_x, slack_y = height, width, slack_y, slack_x
    return Rendition(
        seen.convert("RGB") if seen.mode != "RGB" else seen,
        (width, height),
        factor,
        (slack_x if orientation in _MIRRORED_X else 0.0, slack_y if orientation in _MIRRORED_Y else 0.0),
    )


def _draft(image: ImageFile, shrink: int) -> int:
    """Make a JPEG decode at 1/2, 1/4 or 1/8 of its size, at most by `shrink`; return the factor."""
    width, height = image.size
    if not isinstance(image, JpegImageFile) or shrink < 2:  # noqa: PLR2004 - nothing to gain
        return 1
    drafted = image.draft(image.mode, (max(1, width // shrink), max(1, height // shrink)))
    return 1 if drafted is None else round(width / drafted[1][2])


def _scale_transparent_colour(image: ImageFile) -> None:
    # Pillow keeps the high bytes of a PNG's 16-bit colours, but all 16 bits of its transparent colour.
    if image.tile and image.tile[0].args == "RGB;16B" and "transparency" in image.info:
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])


def _as_seen(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB, with transparent parts on white."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        alpha = layered.getchannel("A")
        extremes = alpha.getextrema()
        # Programs without alpha write zeros in the alpha channel of a BMP; viewers show the colours.
        if extremes == (255, 255) or (image.format == "BMP" and extremes == (0, 0)):
            return layered.convert("RGB")
        white = Image.new("RGB", image.size, "white")
        white.paste(layered, mask=alpha)
        return white
    if image.mode in {"L", "RGB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow clips 16-bit grey to 255 instead of scaling it; the PNG specification keeps the high byte.
    content = image.tobytes()
    grey = Image.frombytes("L", image.size, content[image.mode != "I;16B" :: 2])
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return ImageChops.invert(grey)
    if "transparency" in image.info:
        import numpy as np  # noqa: PLC0415  # a decoding process has no memory for numpy, and no such image

        values = np.frombuffer(content, "<u2" if image.mode != "I;16B" else ">u2")
        grey.paste(
            255, mask=Image.fromarray((values == image.info["transparency"]).reshape(image.size[::-1]))
        )
    return grey


def _orientation(image: Image.Image) -> int:
    if image.format == "HEIF":
        return 1  # libheif has applied the orientation; Exif has a copy of it (ISO/IEC 23000-22, 7.3.4.4)
    # Broken metadata does not make an image broken.
    with contextlib.suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1
