"""Makes an image square: `pad` as LLaVA-1.5 was trained, `crop` as the hub's processor does, or `squash`."""

from math import ceil
from typing import TYPE_CHECKING

from PIL import Image

from gateway.images.decode import Rendition

if TYPE_CHECKING:  # pydantic would double the memory of a decoding process
    from gateway.settings import Fit

# CLIP's mean colour times 255, truncated (`expand2square` in LLaVA's `mm_utils.py`).
MEAN = (122, 116, 104)

# Pixels that shrinking must leave: oversampling for the bicubic step, and a minimum on the short side of a
# narrow image, so that its edges stay in place.
_OVERSAMPLING, _MIN_SHORT_SIDE = 2, 64
# The largest intermediate image, in pixels; 2**25 take 128 MB.
_CANVAS_MAX = 2**25


def shrink_factor(size: tuple[int, int], fit: "Fit", side: int) -> int:
    """Return by how much an image of `size` may be shrunk before it is made square, at least 1."""
    long, short = max(size), min(size)
    if fit != "pad":
        return max(1, short // (_OVERSAMPLING * side))
    shrink = max(1, min(long // (_OVERSAMPLING * side), short // _MIN_SHORT_SIDE))
    # A decoder may shrink by only half of that; an image too long even then is not shrunk.
    return shrink if (2 * long // shrink) ** 2 <= _CANVAS_MAX else 1


def square(picture: Rendition, fit: "Fit", side: int) -> Image.Image:
    """Return `picture` as a square of `side` pixels, without any metadata."""
    unchanged = picture.size == picture.pixels.size == (side, side)
    fitted = picture.pixels.copy() if unchanged else _fitted(picture, fit, side)
    fitted.info = {}
    return fitted


def _fitted(picture: Rendition, fit: "Fit", side: int) -> Image.Image:
    long, short = max(picture.size), min(picture.size)
    match fit:
        case "pad":
            too_large = (long // picture.factor) ** 2 > _CANVAS_MAX
            return _pad_long_side_first(picture.pixels, side) if too_large else _pad(picture, side)
        case "crop":
            too_large = side * (side * long // short) > _CANVAS_MAX
            return _crop_middle_first(picture, side) if too_large else _crop(picture, side)
        case "squash":
            return _resize(picture.pixels, (side, side), _box(picture))


def _pad(picture: Rendition, side: int) -> Image.Image:
    """Paste the image into the middle of a square of the mean colour, and resize the square.

    With factor 1 this is exactly what LLaVA does; otherwise the edges of the square may lie within pixels.
    """
    long = max(picture.size)
    starts = [
        (long - length) // 2 / picture.factor - origin
        for length, origin in zip(picture.size, picture.origin, strict=True)
    ]
    corner = [max(0, ceil(start)) for start in starts]
    left, top = (at - start for at, start in zip(corner, starts, strict=True))
    right, bottom = left + long / picture.factor, top + long / picture.factor
    if (left, right) == (0, picture.pixels.width):
        # No bars at the sides: resizing starts with the width, which leaves the bars above and below as is.
        rows = _resize(picture.pixels, (side, picture.pixels.height), (0, 0, right, picture.pixels.height))
        column = Image.new("RGB", (side, ceil(bottom)), MEAN)
        column.paste(rows, (0, corner[1]))
        return _resize(column, (side, side), (0, top, side, bottom))
    canvas = Image.new("RGB", (ceil(right), ceil(bottom)), MEAN)
    canvas.paste(picture.pixels, (corner[0], corner[1]))
    return _resize(canvas, (side, side), (left, top, right, bottom))


def _crop(picture: Rendition, side: int) -> Image.Image:
    """Resize the short side to `side` and crop the middle, as transformers' CLIPImageProcessor does."""
    width, height = picture.size
    short = min(width, height)
    resized = _resize(picture.pixels, (int(side * width / short), int(side * height / short)), _box(picture))
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    return resized.crop((left, top, left + side, top + side))


def _pad_long_side_first(image: Image.Image, side: int) -> Image.Image:
    """Pad with memory that grows with the long side, not with its square.

    Resizing does the width first, then the height, and rounds in between: a wide image is the same as with
    `_pad`; a high one, whose height is done first here, may differ by 1 of 255.
    """
    if image.height > image.width:
        turned = _pad_long_side_first(image.transpose(Image.Transpose.TRANSPOSE), side)
        return turned.transpose(Image.Transpose.TRANSPOSE)
    width, height = image.size
    rows = _resize(image, (side, height), (0, 0, width, height))
    column = Image.new("RGB", (side, width), MEAN)
    column.paste(rows, (0, (width - height) // 2))
    return _resize(column, (side, side), (0, 0, side, width))


def _crop_middle_first(picture: Rendition, side: int) -> Image.Image:
    """Crop without resizing the parts that are cut off; rounding may differ by 1 of 255."""
    left, top, right, bottom = _box(picture)
    width, height = right - left, bottom - top
    if width > height:
        resized = int(side * picture.size[0] / picture.size[1])
        left += (resized - side) // 2 * width / resized
        right = left + side * width / resized
    else:
        resized = int(side * picture.size[1] / picture.size[0])
        top += (resized - side) // 2 * height / resized
        bottom = top + side * height / resized
    return _resize(picture.pixels, (side, side), (left, top, right, bottom))


def _box(picture: Rendition) -> tuple[float, float, float, float]:
    """Return the edges of the original, in pixels of the rendition."""
    (left, top), (width, height) = picture.origin, picture.size
    return left, top, left + width / picture.factor, top + height / picture.factor


def _resize(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC, box)
