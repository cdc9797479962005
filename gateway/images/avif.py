"""Checks an AVIF file before libavif reads its header."""

from gateway.errors import UnsupportedImage
from gateway.images import isobmff
from gateway.images.isobmff import MAX_META

__all__ = ["MAX_META", "check", "is_avif"]


def is_avif(data: bytes) -> bool:
    """Return whether the brands of the first box include AVIF's."""
    return not isobmff.brands(data).isdisjoint({b"avif", b"avis"})


def check(data: bytes) -> None:
    """Raise ImageError if reading the header could take long: many items, frames or boxes."""
    if b"moov" in isobmff.check(data, "AVIF"):
        raise UnsupportedImage("the image is an AVIF sequence; only still AVIF images are supported")
