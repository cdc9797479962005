"""Checks a HEIC file, as iPhones write it, before libheif reads it, and provides the reader.

libheif applies rotation and mirroring (`irot`, `imir`) and joins a grid of tiles. If a file has several
images, the primary one is used.
"""

import re

from PIL.ImageFile import ImageFile

from gateway.errors import ImageError, UnsupportedImage
from gateway.images import isobmff

_STILL = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1"})
_HEVC = b"hvc1"
# The type of an item: length, `infe`, version 2 or 3, flags, id (2 bytes or 4), protection; 14496-12, 8.11.6.
_ITEM = re.compile(rb"infe(?:\x02.{3}.{2}|\x03.{3}.{4}).{2}(.{4})", re.DOTALL)


def is_heic(data: bytes) -> bool:
    """Return whether the first box names a brand of still HEIF images, which include AVIF's."""
    return not isobmff.brands(data).isdisjoint(_STILL)


def check(data: bytes) -> None:
    """Raise ImageError if the header is too large, and UnsupportedImage for HEIF without HEVC."""
    isobmff.check(data, "HEIC")
    meta = isobmff.meta(data)
    if _HEVC in (items := _ITEM.findall(meta)):
        return
    if not items or len(meta) < int.from_bytes(meta[:4], "big"):
        raise ImageError("the image is broken or cut off")
    raise UnsupportedImage("the image is a HEIF without HEVC (HEIC) in it; send a JPEG or PNG")


def reader() -> type[ImageFile]:
    """Return Pillow's reader. Loads libheif; only decoding processes should call it."""
    from pillow_heif import HeifImageFile, options  # noqa: PLC0415  # 30 MB of libraries

    options.DECODE_THREADS = 1  # images are decoded in parallel already
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    image_file: type[ImageFile] = HeifImageFile
    return image_file
