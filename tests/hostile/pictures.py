"""Pictures that are bombs, broken, of another kind, or just at the edge of what is one."""

import gzip
import struct
import zlib
from functools import cache, partial
from typing import Any

from PIL import Image

from tests.hostile.cases import Case, of_picture, of_url
from tests.images.pictures import data_url, encoded, noisy
from tests.images.test_heic import heic
from tests.images.test_structure import chunks, rle_bmp

SMALL = noisy(64, 48)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "HEIF", "TIFF")
MB = 2**20


@cache
def whole(format_: str) -> bytes:
    if format_ == "HEIF":
        return heic(SMALL)
    return encoded(SMALL, format_, **({"compression": "tiff_lzw"} if format_ == "TIFF" else {}))


def cut(format_: str, tenth: int) -> bytes:
    data = whole(format_)
    return data[: max(1, len(data) * tenth // 100)]


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that says to be so large and has next to no pixels."""
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def frames(count: int, format_: str) -> bytes:
    """Return an animation; no two frames are alike, so that none is left out."""
    made = [Image.new("L", (8, 8), number % 256) for number in range(count)]
    return encoded(made[0], format_, save_all=True, append_images=made[1:])


def endless_gif() -> bytes:
    """Return a GIF of 10,000 frames, all the same."""
    data = plain(8, 8, "GIF")
    palette = 3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0
    frame = data[data.index(b"\x2c", 13 + palette) : -1]
    return data[:-1] + frame * 9999 + data[-1:]


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(SMALL, "JPEG", exif=exif)


def plain(width: int, height: int, format_: str = "PNG", **options: Any) -> bytes:
    return encoded(Image.new("L", (width, height)), format_, **options)


def profile_bomb() -> bytes:
    """Return a PNG whose colour profile unpacks to 50 MB."""
    return chunks(b"iCCP", b"a\0\0" + zlib.compress(bytes(50 * MB)), 1)


def profile_in_pieces() -> bytes:
    """Return a JPEG whose colour profile of 10 MB comes in 160 segments."""
    return encoded(SMALL, "JPEG", icc_profile=bytes(10 * MB))


def huge_heic() -> bytes:
    data = whole("HEIF")
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", 30_000, 30_000) + data[at + 8 :]


def svg_in_png() -> bytes:
    return encoded(SMALL) + b"<svg onload=alert(1)>"


def script_in_gif() -> bytes:
    """Return a GIF that is a script too: its width reads as the start of a comment."""
    data = bytearray(encoded(SMALL, "GIF"))
    data[6:8] = b"/*"
    return bytes(data) + b"*/=1;alert(1)"


def shell_in_bmp() -> bytes:
    return b"BM='\n" + b"id\n" * 20


UNKNOWN = {
    "HTML": b"<!DOCTYPE html><html><body>no picture</body></html>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "SVG in gzip": gzip.compress(b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    "SVG with entities": b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "EPS with a preview": b"\xc5\xd0\xd3\xc6"
    + struct.pack("<7I", 32, 99, 0, 0, 0, 0, 0xFFFF)
    + b"%!PS-Adobe-3.0",
    "PDF": b"%PDF-1.7\n",
    "ICO": encoded(SMALL, "ICO"),
    "PPM": encoded(SMALL, "PPM"),
    "TGA": encoded(SMALL, "TGA"),
    "JPEG 2000": encoded(SMALL, "JPEG2000"),
    "PCX": encoded(SMALL, "PCX"),
    "SGI": encoded(SMALL, "SGI"),
    "zip": b"PK\x03\x04" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "ELF": b"\x7fELF" + bytes(100),
    "ImageMagick's MVG": b"push graphic-context\nfill 'url(https://x/\"|id; \")'\n",
    "FLI": b"\x00\x00\x00\x00\x11\xaf" + bytes(200),
    "one byte": b"x",
    "zeros": bytes(10_000),
    "RIFF of sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(20),
    "PNG's name alone": b"\x89PNG",
}
HUGE_TIFF = b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIIHHII", 256, 4, 1, 50_000, 257, 4, 1, 50_000)
SMALL_TIFF = partial(encoded, SMALL, "TIFF")
# tests/images/test_structure.py has a case of every limit on a file's parts; here is one of each answer.
BOMBS = [
    of_picture("TIFF of 50,000 x 50,000", HUGE_TIFF, "image_too_large"),
    of_picture("TIFF whose directory names itself", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "invalid_image"),
    of_picture("TIFF of 51 pages", partial(SMALL_TIFF, save_all=True, append_images=[SMALL] * 50), None),
    of_picture("HEIC of zeros", b"\0\0\0\x18ftypheic" + bytes(100), "invalid_image"),
    of_picture("HEIC of 30,000 x 30,000", huge_heic, "image_too_large"),
    of_picture("PNG of 8001 x 8000", partial(plain, 8001, 8000), "image_too_large"),
    of_picture("PNG of 50,000 x 50,000", partial(png_header, 50_000, 50_000), "image_too_large"),
    of_picture("PNG of 2^31 - 1 squared", partial(png_header, 2**31 - 1, 2**31 - 1), "image_too_large"),
    of_picture("PNG of 2^32 - 1 squared", partial(png_header, 2**32 - 1, 2**32 - 1), "image_too_large"),
    of_picture("PNG of 0 x 0", partial(png_header, 0, 0), "invalid_image"),
    of_picture("PNG of 1 x 100,000", partial(plain, 1, 100_000), "image_too_large"),
    of_picture("PNG of 1 x 20,000", partial(plain, 1, 20_000), None),
    of_picture("PNG of 20,000 x 1", partial(plain, 20_000, 1), None),
    of_picture("JPEG of 1 x 20,000", partial(plain, 1, 20_000, "JPEG"), None),
    of_picture("PNG of 1 x 1", partial(plain, 1, 1), None),
    of_picture(
        "100 MB in zTXt", lambda: chunks(b"zTXt", b"a\0\0" + zlib.compress(bytes(MB)), 100), "image_too_large"
    ),
    of_picture("colour profile that unpacks to 50 MB", profile_bomb, None),
    of_picture("BMP of runs", rle_bmp, "unsupported_image_format"),
    of_picture("GIF of 2,000 frames", partial(frames, 2000, "GIF"), None),
    of_picture("GIF of 10,000 frames", endless_gif, None),
    of_picture("WebP of 300 frames", partial(frames, 300, "WEBP"), None),
    of_picture("PNG of 300 frames", partial(frames, 300, "PNG"), None),
]
BROKEN = [
    of_picture(f"{format_} cut at {tenth} %", partial(cut, format_, tenth), code)
    for format_ in FORMATS
    for tenth, code in ((0, "unsupported_image_format"), (50, "invalid_image"))
]
ODD = [
    *(
        of_picture(f"EXIF orientation {number}", partial(turned, number), None)
        for number in (*range(10), 65535)
    ),
    *(of_picture(f"no picture: {name}", data, "unsupported_image_format") for name, data in UNKNOWN.items()),
    of_picture("HTML after a PNG", svg_in_png, None),
    of_picture("zip after a JPEG", encoded(SMALL, "JPEG") + b"PK\x03\x04" + bytes(1000), None),
    of_picture("PNG within a zip's comment", encoded(SMALL) + b"PK\x05\x06" + bytes(16) + b"\xff\xff", None),
    of_picture("a GIF and a script", script_in_gif, None),
    of_picture("a BMP and a shell's script", shell_in_bmp, "invalid_image"),
    of_picture("PNG after HTML", b"<html><!--" + encoded(SMALL), "unsupported_image_format"),
    of_picture("two JPEGs in one", encoded(SMALL, "JPEG") * 2, None),
    of_picture("multi-picture JPEG", encoded(SMALL, "MPO", save_all=True, append_images=[SMALL] * 3), None),
    of_picture("colour profile of 160 segments", profile_in_pieces, None),
    of_picture("colour profile that is none", encoded(SMALL, icc_profile=b"\xff" * 1000), None),
    of_picture("21 MB", bytes(21 * MB), "image_too_large"),
]
PNG = data_url(encoded(SMALL))
DATA = PNG.partition(",")[2]
DATA_URLS = [
    Case("upper case", of_url(f"DATA:IMAGE/PNG;BASE64,{DATA}"), None),
    Case("wrong type", of_url(f"data:image/jpeg;base64,{DATA}"), None),
    Case("type of a page", of_url(f"data:text/html;base64,{DATA}"), None),
    Case("no type", of_url(f"data:;base64,{DATA}"), None),
    Case("parameters", of_url(f"data:image/png;name=../../x;charset=utf-8;base64,{DATA}"), None),
    Case(
        "line breaks",
        of_url("data:image/png;base64," + "\r\n".join(DATA[at : at + 76] for at in range(0, len(DATA), 76))),
        None,
    ),
    Case("URL-safe", of_url("data:image/png;base64," + DATA.replace("+", "-").replace("/", "_")), None),
    Case("no padding", of_url("data:image/png;base64," + DATA.rstrip("=")), None),
    Case(
        "percent-encoded",
        of_url("data:image/png;base64," + DATA.replace("+", "%2B").replace("/", "%2F")),
        None,
    ),
    Case("no base64", of_url("data:image/png,abc"), "invalid_image"),
    Case("no comma", of_url("data:image/png;base64"), "invalid_image"),
    Case("nothing", of_url("data:image/png;base64,"), "invalid_image"),
    Case("only padding", of_url("data:image/png;base64,===="), "invalid_image"),
    Case("padding in the middle", of_url(f"data:image/png;base64,{DATA[:8]}=={DATA[8:]}"), "invalid_image"),
    Case("other letters", of_url("data:image/png;base64,!!!!"), "invalid_image"),
    Case("other alphabet", of_url("data:image/png;base64,ＡＡＡＡ"), "invalid_image"),
    Case("NUL", of_url(f"data:image/png;base64,{DATA[:8]}\0{DATA[8:]}"), "invalid_image"),
    Case("base64 of base64", of_url("data:image/png;base64,aVZCT1J3MEtHZ28="), "unsupported_image_format"),
    Case("scheme alone", of_url("data:"), "invalid_image"),
    Case("header without end", of_url("data:" + "x" * 10**6), "invalid_image"),
    Case(
        "a million parameters", of_url("data:image/png" + ";a" * 10**6 + f";base64,{DATA}"), "invalid_image"
    ),
    Case("a data URL of a data URL", of_url(f"data:data:image/png;base64,{DATA}"), None),
    Case("blanks around and within", of_url(f" data: image/png ; base64 , {DATA} "), None),
    Case(
        "40 MB of percent signs", lambda: of_url("data:image/png;base64," + "%" * 40 * MB), "image_too_large"
    ),
    Case("20 MB of percent signs", lambda: of_url("data:image/png;base64," + "%" * 20 * MB), "invalid_image"),
]
PICTURES = [*BOMBS, *BROKEN, *ODD, *DATA_URLS]
