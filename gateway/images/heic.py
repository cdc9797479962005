"""HEIC, as iPhones write it: what a file may be before libheif reads it, and the reader.

libheif turns and mirrors the picture as the file says (`irot`, `imir`) and puts a grid of tiles together. Of
several pictures the primary one is taken.
"""

import re

from PIL.ImageFile import ImageFile

from gateway.errors import ImageError, UnsupportedImage
from gateway.images import isobmff

_STILL = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1"})
_HEVC = b"hvc1"
# An item's type: length, `infe`, version 2 or 3, flags, id (2 bytes or 4), protection; 14496-12, 8.11.6.
_ITEM = re.compile(rb"infe(?:\x02.{3}.{2}|\x03.{3}.{4}).{2}(.{4})", re.DOTALL)


def is_heic(data: bytes) -> bool:
    """Say whether the first box names a brand of still HEIF pictures. AVIF's are among them too."""
    return not isobmff.brands(data).isdisjoint(_STILL)


def check(data: bytes) -> None:
    """Raise ImageError where the header is too large, and UnsupportedImage for HEIF without HEVC."""
    isobmff.check(data, "HEIC")
    meta = isobmff.meta(data)
    if _HEVC in (items := _ITEM.findall(meta)):
        return
    if not items or len(meta) < int.from_bytes(meta[:4], "big"):
        raise ImageError("the image is broken or cut off")
    raise UnsupportedImage("the image is a HEIF without HEVC (HEIC) in it; send a JPEG or PNG")


def reader() -> type[ImageFile]:
    """Return Pillow's reader. Loads libheif, which only the processes that decode should do."""
    from pillow_heif import HeifImageFile, options  # noqa: PLC0415  # 30 MB of libraries

    options.DECODE_THREADS = 1  # pictures are decoded side by side already
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    image_file: type[ImageFile] = HeifImageFile
    return image_file
