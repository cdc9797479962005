"""How a picture becomes square: `pad` as LLaVA-1.5 was trained, `crop` as the hub's processor, `squash`."""

from math import ceil
from typing import TYPE_CHECKING

from PIL import Image

from gateway.images.decode import Rendition

if TYPE_CHECKING:  # pydantic would double what a decoding process takes
    from gateway.settings import Fit

# CLIP's mean colour times 255, cut to integers (`expand2square` in LLaVA's `mm_utils.py`).
MEAN = (122, 116, 104)

# What shrinking must leave: oversampling for the bicubic step along each axis, and a minimum of pixels on a
# narrow picture's short side, so that its edges stay where they are.
_OVERSAMPLING, _MIN_SHORT_SIDE = 2, 64
# No recipe fills more pixels than this on its way; 2**25 take 128 MB.
_CANVAS_MAX = 2**25


def shrink_factor(size: tuple[int, int], fit: "Fit", side: int) -> int:
    """Return by how much a picture of `size` may be shrunk before it is fitted, at least 1."""
    long, short = max(size), min(size)
    if fit != "pad":
        return max(1, short // (_OVERSAMPLING * side))
    shrink = max(1, min(long // (_OVERSAMPLING * side), short // _MIN_SHORT_SIDE))
    # A decoder may shrink by half of that only; what is too long even then is fitted as it is.
    return shrink if (2 * long // shrink) ** 2 <= _CANVAS_MAX else 1


def square(picture: Rendition, fit: "Fit", side: int) -> Image.Image:
    """Return `picture` as a square of `side` pixels, without any metadata."""
    is_one = picture.size == picture.pixels.size == (side, side)
    fitted = picture.pixels.copy() if is_one else _fitted(picture, fit, side)
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
    """Lay the picture on the middle of a square of the mean colour, and resize that.

    With factor 1 this is the original's recipe to the letter; else the square's edges may lie within pixels.
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
        # Nothing lies beside it. Resizing takes the width first; the bars above and below stay as they are.
        rows = _resize(picture.pixels, (side, picture.pixels.height), (0, 0, right, picture.pixels.height))
        column = Image.new("RGB", (side, ceil(bottom)), MEAN)
        column.paste(rows, (0, corner[1]))
        return _resize(column, (side, side), (0, top, side, bottom))
    canvas = Image.new("RGB", (ceil(right), ceil(bottom)), MEAN)
    canvas.paste(picture.pixels, (corner[0], corner[1]))
    return _resize(canvas, (side, side), (left, top, right, bottom))


def _crop(picture: Rendition, side: int) -> Image.Image:
    """Resize the short side to `side` and cut out the middle, as transformers' CLIPImageProcessor."""
    width, height = picture.size
    short = min(width, height)
    resized = _resize(picture.pixels, (int(side * width / short), int(side * height / short)), _box(picture))
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    return resized.crop((left, top, left + side, top + side))


def _pad_long_side_first(image: Image.Image, side: int) -> Image.Image:
    """Pad in memory that grows with the long side, not with its square.

    Resizing takes first the width, then the height, and rounds in between: a wide picture comes out as by the
    recipe, a high one, whose height is taken first here, may differ by 1 of 255.
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
    """Crop without resizing what is cut off; rounding may differ by 1 of 255."""
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
    """Return the original's edges, in pixels of the rendition."""
    (left, top), (width, height) = picture.origin, picture.size
    return left, top, left + width / picture.factor, top + height / picture.factor


def _resize(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC, box)
