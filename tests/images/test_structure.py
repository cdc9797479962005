"""Files whose few bytes would keep a decoder busy are refused at once, and honest ones are not."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gateway.errors import ImageError, ImageTooLarge, UnsupportedImage
from gateway.images.decode import decode
from gateway.images.header import open_image, read_header
from gateway.images.structure import webp_size
from tests.growth import assert_quick
from tests.images.pictures import encoded, noisy

MB = 2**20


def jpeg() -> bytes:
    return encoded(noisy(64, 48), "JPEG")


def png() -> bytes:
    return encoded(noisy(64, 48), "PNG")


def gif() -> bytes:
    return encoded(noisy(64, 48), "GIF")


def segments(marker: int, payload: bytes, count: int) -> bytes:
    """Return a JPEG with so many segments of its own before all others."""
    one = b"\xff" + bytes([marker]) + (len(payload) + 2).to_bytes(2, "big") + payload
    return jpeg()[:2] + one * count + jpeg()[2:]


def chunks(kind: bytes, payload: bytes, count: int) -> bytes:
    """Return a PNG with so many chunks of its own before its pixels."""
    check = zlib.crc32(kind + payload)
    one = len(payload).to_bytes(4, "big") + kind + payload + check.to_bytes(4, "big")
    return png()[:33] + one * count + png()[33:]


def comments(count: int) -> bytes:
    """Return a GIF with a comment of so many blocks."""
    data = gif()
    at = data.index(b"\x2c", 13 + 3 * 256 if data[10] & 0x80 else 13)
    return data[:at] + b"\x21\xfe" + (b"\xff" + b"x" * 255) * count + b"\x00" + data[at:]


def rle_bmp() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 4000, 4000, 1, 8, 1, 33_000, 0, 0, 256, 0)
    palette = bytes(1024)
    offset = 14 + len(header) + len(palette)
    return (
        struct.pack("<2sIHHI", b"BM", offset + 33_000, 0, 0, offset) + header + palette + b"\xff\x01" * 16_500
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: segments(0xE5, b"", 4_900_000), "the image has more than 500 segments before its pixels"),
        (
            lambda: segments(0xE1, b"Exif\0\0" + b"x", 1_000_000),
            "the image has more than 64 segments of Exif",
        ),
        (
            lambda: chunks(b"tEXt", b"a\0b", 1_000_000),
            "the image has more than 1000 chunks beside its pixels",
        ),
        (
            lambda: chunks(b"zTXt", b"a\0\0" + zlib.compress(bytes(MB)), 100),
            "the image has more than 64 compressed texts",
        ),
        (lambda: chunks(b"IDAT", b"", 1_500_000), "the image has more than 20000 chunks of pixels"),
        (lambda: comments(80_000), "the image has more than 4000 blocks before its pixels"),
    ],
    ids=["segments", "Exif", "chunks", "texts", "empty pixels", "comments"],
)
def test_a_file_of_too_many_parts_is_refused_within_a_blink(make: Callable[[], bytes], message: str) -> None:
    data = make()

    def refuse() -> None:
        with pytest.raises(ImageTooLarge) as refused:
            open_image(data, max_pixels=10**8)
        assert refused.value.message == message

    assert_quick(refuse, 0.2)


def test_a_run_length_encoded_bmp_is_refused() -> None:
    with pytest.raises(UnsupportedImage, match="run-length encoded BMP"):
        open_image(rle_bmp(), max_pixels=10**8)


def test_honest_files_are_opened() -> None:
    note = PngInfo()
    for number in range(20):
        note.add_text(f"key {number}", "value " * 100, zip=True)
    noted = io.BytesIO()
    noisy(64, 48).save(noted, "PNG", pnginfo=note)
    profiled = io.BytesIO()
    noisy(64, 48).save(profiled, "JPEG", icc_profile=bytes(3 * MB), comment=b"x" * 60_000)
    filled = jpeg()[:2] + b"\xff" * 100_000 + jpeg()[3:]
    for data in (noted.getvalue(), profiled.getvalue(), filled, segments(0xE5, b"", 400), comments(3000)):
        assert open_image(data, max_pixels=10**8).size == (64, 48)


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}], ids=["", "lossless", "exif"]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_of_a_webp_is_told_by_its_header(options: dict[str, object], mode: str) -> None:
    data = io.BytesIO()
    noisy(61, 47).convert(mode).save(data, "WEBP", **options)
    assert webp_size(data.getvalue()) == (61, 47)


def test_a_webp_too_large_is_refused_before_its_memory_is_taken() -> None:
    data = io.BytesIO()
    Image.new("RGB", (8000, 8000)).save(data, "WEBP", lossless=True)

    def refuse() -> None:
        with pytest.raises(ImageTooLarge, match="8000 x 8000"):
            open_image(data.getvalue(), max_pixels=10**7)

    assert_quick(refuse, 0.05)
    for cut in range(0, 40, 3):
        with pytest.raises(ImageError):
            open_image(data.getvalue()[:cut] or b"x", max_pixels=10**8)


def test_notes_are_dropped_when_the_header_is_read() -> None:
    """Opened, a picture waits for its turn: what it holds then is its file and no more."""
    texts = chunks(b"zTXt", b"a\0\0" + zlib.compress(bytes(MB)), 15)
    profiled = io.BytesIO()
    noisy(64, 48).save(profiled, "JPEG", icc_profile=bytes(3 * MB), comment=b"x" * 60_000)
    exif = segments(0xE1, b"Exif\0\0" + bytes(60_000), 60)
    private = chunks(b"prVt", bytes(3 * MB), 1)
    for data in (texts, private, profiled.getvalue(), exif, segments(0xE5, bytes(60_000), 300)):
        tracemalloc.start()
        header = read_header(data, max_pixels=10**8)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert header.size == (64, 48)
        assert kept < MB


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def turned_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noisy(64, 48), "JPEG", exif=exif)


def turned_by_png_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noisy(64, 48), "PNG", exif=exif)


def turned_by_png_exif_at_the_end() -> bytes:
    data = turned_by_png_exif()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    return data[:start] + data[end:-12] + data[start:end] + data[-12:]


def turned_by_png_xmp() -> bytes:
    notes = PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return encoded(noisy(64, 48), "PNG", pnginfo=notes)


TURNED = {
    "JPEG, Exif": turned_by_exif(),
    "JPEG, XMP": encoded(noisy(64, 48), "JPEG", xmp=XMP),
    "PNG, Exif": turned_by_png_exif(),
    "PNG, Exif behind the pixels": turned_by_png_exif_at_the_end(),
    "PNG, XMP": turned_by_png_xmp(),
}


@pytest.mark.parametrize("data", TURNED.values(), ids=TURNED)
def test_the_orientation_outlives_the_notes_that_tell_it(data: bytes) -> None:
    image = read_header(data, max_pixels=10**8).image
    assert image is not None
    assert decode(image, shrink=1).pixels.size == (48, 64)


@pytest.mark.parametrize("junk", [b"\0", b"\xff\0"], ids=["zeros", "escaped"])
def test_junk_between_a_jpegs_segments_is_refused_before_it_is_passed_byte_by_byte(junk: bytes) -> None:
    data = encoded(noisy(64, 48), "JPEG")
    at = 4 + int.from_bytes(data[4:6])  # behind the first segment
    assert open_image(data[:at] + junk * 1000 + data[at:], max_pixels=10**8).size == (64, 48)
    large = data[:at] + junk * (20 * MB // len(junk)) + data[at:]

    def refuse() -> None:
        with pytest.raises(ImageTooLarge, match="more than 65536 bytes between its segments"):
            read_header(large, max_pixels=10**8)

    assert_quick(refuse, 0.3)
