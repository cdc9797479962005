"""What was sent instead of a picture is named, so that its sender knows what to send."""

import gzip
import io
import zipfile

import pytest
from PIL import Image

from gateway.errors import UnsupportedImage
from gateway.images.header import read_header
from gateway.images.unsupported import name
from tests.each import each
from tests.growth import assert_quick
from tests.images.pictures import encoded

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.png", b"x")
    return out.getvalue()


KINDS = {
    "an SVG": [
        SVG,
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by hand -->\n<svg:svg>',
        b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n' + SVG,
    ],
    "a PDF": [b"%PDF-1.7\n%\xe2\xe3", encoded(Image.new("L", (8, 8)), "PDF")],
    "an HTML page": [b"<!doctype HTML>\n<p>", b"\n <html lang=en>", b"<!-- x --><head>"],
    "a JPEG XL": [b"\xff\x0a\xfa\x7f", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20)],
    "a JPEG 2000": [encoded(Image.new("L", (8, 8)), "JPEG2000")],
    "an MP4 video": [b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", b"\0\0\0\x20ftypisom" + bytes(24)],
    "a QuickTime video (MOV)": [b"\0\0\0\x14ftypqt  \0\0\0\0qt  "],
    "JSON": [b'{"error": "not found"}', b' ["a"]'],
    "an XML file": [b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'],
    "text": [b"Not found\n", "Größe 1\n".encode()],
    "a ZIP file": [zipped()],
    "a gzip file": [gzip.compress(SVG)],
    "an icon (ICO)": [encoded(Image.new("L", (8, 8)), "ICO")],
    "a Photoshop file (PSD)": [b"8BPS\0\1" + bytes(20)],
    "a WebM or Matroska video": [b"\x1aE\xdf\xa3\x01"],
    "an AVI video": [b"RIFF\x24\0\0\0AVI LIST"],
}


@each("kind", KINDS)
def test_what_is_no_picture_is_named(kind: str) -> None:
    for data in KINDS[kind]:
        with pytest.raises(UnsupportedImage) as caught:
            read_header(data, max_pixels=100)
        assert caught.value.message == f"this is {kind}; send a JPEG or PNG"


@pytest.mark.parametrize("data", [b"", b"x", bytes(100), b"\x7fELF" + bytes(10), b"RIFF\x24\0\0\0WEBQ"])
def test_what_has_no_name_is_told_what_may_be_sent(data: bytes) -> None:
    with pytest.raises(UnsupportedImage) as caught:
        read_header(data, max_pixels=100)
    assert caught.value.message == "the image is not a JPEG, PNG, WebP, GIF, BMP, AVIF, HEIC or TIFF"


@pytest.mark.parametrize("piece", [b"<!---->", b"<??>", b" ", b"<!DOCTYPE a[] ", b"<!DOCTYPE a []>", b"<!--"])
def test_a_name_is_found_in_no_time(piece: bytes) -> None:
    data = piece * 5000
    assert name(data) in {"an XML file", "text"}
    assert_quick(lambda: name(data), 0.1)
