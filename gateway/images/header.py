"""Reads the header of an encoded image: format, size, and the memory that decoding will take."""

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import AvifImagePlugin, ExifTags, Image, PngImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gateway.errors import ImageError, ImageTooLarge, UnsupportedImage
from gateway.images import avif, heic, isobmff, jpeg, png, structure, tiff, unsupported

# Not `Image.open`: it tries further formats, and checks sizes against a process-wide limit.
_READERS: dict[str, type[ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
    "bmp": BmpImageFile,
    "avif": AvifImageFile,
    "tiff": TiffImageFile,
}
_STARTS = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    *((start, "tiff") for start in tiff.STARTS),
)
# Images are decoded in parallel already, each by one thread.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
PngImagePlugin.MAX_TEXT_MEMORY = 2**24  # characters of all texts of a PNG, which are not kept
# Bytes per pixel by Pillow's mode: as it is read, as RGB, and a copy that is upright or reduced.
_BYTES_PER_PIXEL = {
    "1": 8,
    "L": 7,
    "P": 9,
    "RGB": 8,
    "CMYK": 12,
    "YCbCr": 12,
    "I;16": 11,
    "I;16B": 11,
    "I": 12,
}
_LAYERED = 13  # with alpha: as RGBA, its mask, and the result on white
# Bytes per pixel that decoders keep besides: two canvases; planes of up to 12 bits and their pixels.
_DECODERS_BYTES = {"webp": 9, "avif": 10, "heic": 5}
_NAMES = {"WEBP": "webp", "AVIF": "avif", "HEIF": "heic"}  # by the names of Pillow's readers
MB = 2**20
# The maximum of JPEG and GIF; resizing takes memory that grows with the side.
_MAX_SIDE = 65_535
_MAX_SCAN_PIXELS = 10**9  # of all scans together, if decoded in a thread: about a second
# Metadata that readers keep, none of which is used here.
_NOTES = frozenset({"exif", "icc_profile", "xmp", "photoshop", "flashpix", "comment", "mp"})
_FOR_A_PROCESS = frozenset({"webp", "avif", "heic", "tiff"})
# The largest reduction by a JPEG decoder. A single-scan JPEG then takes a fifth of the time per pixel, and
# memory only for the reduced pixels (docs/memory.md), so it may have _CHEAPER times the pixels.
_MOST_SHRUNK, _CHEAPER = 8, 4
_BLOCK_BYTES = 128  # of coefficients for 8 x 8 samples
_ONE_SCAN = "one_scan"  # key in the `info` of a JPEG: it is decoded row by row
_BITS_PER_SAMPLE = 258  # a TIFF tag
_BOXED = {"avif": avif.check, "heic": heic.check}
_START_OF_SCAN = b"\xff\xda"

Shrink = Callable[[tuple[int, int]], int]  # returns by how much an image of this size may be shrunk


def no_shrink(_: tuple[int, int]) -> int:
    """Return 1: the image is decoded at its full size."""
    return 1


_RAISED_BY_READERS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    OverflowError,
    RuntimeError,  # AVIF's
)


def format_of(data: bytes) -> str | None:
    """Return the format by the first bytes: one of `_READERS` or heic; None for any other."""
    for start, name in _STARTS:
        if data.startswith(start):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if avif.is_avif(data):
        return "avif"
    return "heic" if heic.is_heic(data) else None


@dataclass(frozen=True, slots=True)
class Header:
    """The facts about a file that are known before it is decoded."""

    format: str
    size: tuple[int, int]
    image: ImageFile | None  # decoded by a thread; None if a process must decode the file
    memory: int  # bytes that decoding takes at most if the decoder does not shrink the image

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


def read_header(data: bytes, *, max_pixels: int, shrink: Shrink = no_shrink) -> Header:
    """Return the header of `data`. Raises what `open_image` raises.

    WebP, AVIF, HEIC and TIFF are decoded in a process: their decoders hold the GIL or have a long record of
    vulnerabilities, and libwebp allocates all pixels when Pillow reads the header. So are JPEGs whose scans
    take more than about a second.
    """
    format_ = _checked_format(data)
    if format_ in _FOR_A_PROCESS:
        size, bytes_per_pixel = _declared(data, format_)
        _check_size(size, max_pixels)
        return Header(format_, size, None, size[0] * size[1] * bytes_per_pixel + MB)
    image = open_image(data, max_pixels=max_pixels, shrink=shrink)
    _forget_notes(image)
    memory = memory_for(image, 1)
    slow = isinstance(image, JpegImageFile) and _scan_pixels(image, data) > _MAX_SCAN_PIXELS
    return Header(format_, image.size, None if slow else image, memory)


def _declared(data: bytes, format_: str) -> tuple[tuple[int, int], int]:
    """Return the size that the file declares, and the bytes per pixel that decoding takes at most."""
    match format_:
        case "tiff":
            page = tiff.first_page(data)
            read = _LAYERED if page.transparent else _BYTES_PER_PIXEL["CMYK"]
            return page.size, _strip_bytes(page.bits) + read
        case "webp":
            size = structure.webp_size(data)
            opaque = not structure.webp_may_be_transparent(data)
        case _:
            opaque, size = False, isobmff.size(data)
    return size, _DECODERS_BYTES[format_] + (_BYTES_PER_PIXEL["RGB"] if opaque else _LAYERED)


def _forget_notes(image: ImageFile) -> None:
    """Drop all metadata but the orientation: a reader may keep several times the size of the file."""
    # Texts are a PNG's, and none is used.
    kept = {k: v for k, v in image.info.items() if k not in _NOTES and not isinstance(v, str)}
    with contextlib.suppress(Exception):  # Broken metadata does not make an image broken.
        # Not PNG's own `getexif`: it reads the pixels if no Exif comes before them.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        if orientation is not None:
            note = Image.Exif()
            note[ExifTags.Base.Orientation] = int(orientation)
            kept["exif"] = note.tobytes()
    image._exif = None  # noqa: SLF001  # it keeps the Exif of the file
    if isinstance(image, JpegImageFile):
        image.applist, image.app, image.icclist = [], {}, []
    elif isinstance(image, PngImageFile) and image.png is not None:
        image.private_chunks = []
        image.png.im_text.clear()
        image.png.im_info = kept  # the same dictionary: metadata after the pixels is read into it
    image.info = kept


def open_image(data: bytes, *, max_pixels: int, shrink: Shrink = no_shrink) -> ImageFile:
    """Return the image with its header read and nothing decoded. `shrink` is that of the later `decode`.

    Raises UnsupportedImage, ImageTooLarge for more than `max_pixels` pixels or 65,535 along a side, and
    ImageError if the image is broken.
    """
    format_ = _checked_format(data)
    if format_ in _FOR_A_PROCESS:
        _check_size(_declared(data, format_)[0], max_pixels)
    reader = heic.reader() if format_ == "heic" else _READERS[format_]
    with broken_is_an_image_error():
        image = reader(io.BytesIO(png.without_notes(data) if format_ == "png" else data))
    if isinstance(image, JpegImageFile):
        if not all(h and v for _, h, v, _ in image.layer):
            raise ImageError("the image is broken or cut off")
        image.info[_ONE_SCAN] = _ends_with_its_first_scan(image, data)
        _scans(image, data)
        if image.info[_ONE_SCAN] and _jpeg_factor(shrink(image.size)) == _MOST_SHRUNK:
            max_pixels *= _CHEAPER
    _check_size(image.size, max_pixels)
    return image


def _checked_format(data: bytes) -> str:
    format_ = format_of(data)
    if format_ is None:
        kind = unsupported.name(data)
        if kind is None:
            raise UnsupportedImage("the image is not a JPEG, PNG, WebP, GIF, BMP, AVIF, HEIC or TIFF")
        raise UnsupportedImage(f"this is {kind}; send a JPEG or PNG")
    structure.check(data, format_)
    if format_ in _BOXED:
        _BOXED[format_](data)
    return format_


def _scans(image: JpegImageFile, data: bytes) -> int:
    """Return the number of scans that the decoder reads. Raises ImageTooLarge for too many."""
    assert image.fp is not None  # open until the pixels are read
    return 1 if image.info[_ONE_SCAN] else jpeg.scans(data, image.fp.tell())


def _scan_pixels(image: JpegImageFile, data: bytes) -> int:
    """Return the pixels that all scans decode together: each scan passes over the full image."""
    pixels = image.width * image.height
    return pixels * _scans(image, data) if pixels * jpeg.MAX_SCANS > _MAX_SCAN_PIXELS else pixels


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if max(size) > _MAX_SIDE:
        raise ImageTooLarge(f"the image has {width} x {height} pixels; the limit is {_MAX_SIDE} per side")
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}"
        )


def _ends_with_its_first_scan(image: JpegImageFile, data: bytes) -> bool:
    """Return whether the decoder reads one scan only: the JPEG is sequential, with all channels in one scan.

    Pillow has read the header up to the end of the first start-of-scan segment: marker, length (2 bytes),
    number of channels (1), 2 bytes for each, 3 more (ITU T.81, B.2.3).
    """
    assert image.fp is not None  # open until the pixels are read
    length = 6 + 2 * image.layers
    one = _START_OF_SCAN + length.to_bytes(2, "big") + bytes([image.layers])
    start = max(0, image.fp.tell() - length - len(_START_OF_SCAN))
    return not image.info.get("progressive") and data.startswith(one, start)


def memory_for(image: ImageFile, shrink: int) -> int:
    """Return the bytes that `decode` takes at most, including intermediate copies."""
    pixels = image.width * image.height
    coefficients = 0
    if isinstance(image, JpegImageFile):
        pixels = -(-pixels // _jpeg_factor(shrink) ** 2)
        coefficients = 0 if image.info.get(_ONE_SCAN) else _coefficients_bytes(image)
    bytes_per_pixel = _BYTES_PER_PIXEL.get(image.mode, 12)
    if image.has_transparency_data:
        bytes_per_pixel = _LAYERED
    return pixels * (bytes_per_pixel + _decoders_bytes(image)) + coefficients + MB


def _jpeg_factor(shrink: int) -> int:
    return min(_MOST_SHRUNK, 1 << max(1, shrink).bit_length() - 1)


def _coefficients_bytes(image: JpegImageFile) -> int:
    """Return the bytes that libjpeg keeps of a multi-scan JPEG: two for each sample, at any scale."""
    most_h, most_v = max(h for _, h, _, _ in image.layer), max(v for _, _, v, _ in image.layer)
    across, down = -(-image.width // (8 * most_h)), -(-image.height // (8 * most_v))
    return sum(across * h * down * v * _BLOCK_BYTES for _, h, v, _ in image.layer)


def _decoders_bytes(image: ImageFile) -> int:
    if isinstance(image, TiffImageFile):
        depths = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))
        return _strip_bytes(len(depths) * max(depths))
    return _DECODERS_BYTES.get(_NAMES.get(image.format or "", ""), 0)


def _strip_bytes(bits: int) -> int:
    # A TIFF may have a single strip, for which libtiff allocates at least four bytes per pixel.
    return max(4, -(-bits // 8))


@contextlib.contextmanager
def broken_is_an_image_error() -> Iterator[None]:
    """Convert the exceptions that Pillow's readers raise for broken files to ImageError."""
    try:
        yield
    except Image.DecompressionBombError:
        raise ImageTooLarge("the image has far too many pixels") from None
    except _RAISED_BY_READERS:
        raise ImageError("the image is broken or cut off") from None
