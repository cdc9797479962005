"""Encoded bytes to pixels as a person would see them: upright, on white, 8 bits a channel.

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
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a TIFF's tag
# Where the original's right and bottom edges come to lie at the left or at the top.
_MIRRORED_X, _MIRRORED_Y, _SWAPPED = frozenset({2, 3, 6, 7}), frozenset({3, 4, 7, 8}), frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class Rendition:
    """An upright RGB picture, each pixel of which stands for `factor` x `factor` of the original's.

    `size` is the original's, upright; `origin` is where its top left corner lies, in these pixels: where the
    size is no multiple of the factor, the last column and row stand for less, and turning may bring them to
    the front.
    """

    pixels: Image.Image
    size: tuple[int, int]
    factor: int = 1
    origin: tuple[float, float] = (0.0, 0.0)


def decode(image: ImageFile, *, shrink: int) -> Rendition:
    """Return the first frame as a person would see it, made smaller by at most `shrink` on the way.

    JPEGs are shrunk by their decoder, at a reduced DCT scale; others by averaging. Raises ImageError.
    """
    width, height = image.size
    with broken_is_an_image_error():
        factor = _draft(image, shrink)
        _scale_transparent_colour(image)
        image.load()
        if factor == 1:
            width, height = image.size  # a HEIC's may be another than its header says
        seen = _as_seen(image)
    orientation = _orientation(image)
    if factor == 1 and shrink > 1:
        factor = shrink
        seen = seen.reduce(factor)
    # The original's edges lie where its size divided by the factor says, within the last pixel.
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
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size, by no more than `shrink`; return the factor."""
    width, height = image.size
    if not isinstance(image, JpegImageFile) or shrink < 2:  # noqa: PLR2004 - nothing to gain
        return 1
    drafted = image.draft(image.mode, (max(1, width // shrink), max(1, height // shrink)))
    return 1 if drafted is None else round(width / drafted[1][2])


def _scale_transparent_colour(image: ImageFile) -> None:
    # Pillow keeps the high bytes of a PNG's 16-bit colours, but all 16 bits of the one that is transparent.
    if image.tile and image.tile[0].args == "RGB;16B" and "transparency" in image.info:
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])


def _as_seen(image: Image.Image) -> Image.Image:
    """Return the picture in mode L or RGB, what is transparent laid on white."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        alpha = layered.getchannel("A")
        extremes = alpha.getextrema()
        # Programs that know no alpha write zeros where a BMP's header has some; viewers show the colours.
        if extremes == (255, 255) or (image.format == "BMP" and extremes == (0, 0)):
            return layered.convert("RGB")
        white = Image.new("RGB", image.size, "white")
        white.paste(layered, mask=alpha)
        return white
    if image.mode in {"L", "RGB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow clips 16-bit grey to 255 where it should scale; PNG's own advice is to keep the high byte.
    content = image.tobytes()
    grey = Image.frombytes("L", image.size, content[image.mode != "I;16B" :: 2])
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return ImageChops.invert(grey)
    if "transparency" in image.info:
        import numpy as np  # noqa: PLC0415  # a decoding process has no memory for it, and no such image

        values = np.frombuffer(content, "<u2" if image.mode != "I;16B" else ">u2")
        grey.paste(
            255, mask=Image.fromarray((values == image.info["transparency"]).reshape(image.size[::-1]))
        )
    return grey


def _orientation(image: Image.Image) -> int:
    if image.format == "HEIF":
        return 1  # libheif has turned it as the file says; Exif's is a copy (ISO/IEC 23000-22, 7.3.4.4)
    # A picture is not broken because a note in it is.
    with contextlib.suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1
