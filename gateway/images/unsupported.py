"""Recognises common files that are not images, or images in a format that is not supported."""

import re

_EXAMINED = 4096  # bytes of text
_SIGNATURES = (
    (b"%PDF-", "a PDF"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"icns", "an icon (ICNS)"),
    (b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
    (b"PK\3\4", "a ZIP file"),
    (b"PK\5\6", "a ZIP file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"qoif", "a QOI"),
    (b"gimp xcf", "a GIMP file (XCF)"),
    (b"\x76\x2f\x31\x01", "an OpenEXR"),
    (b"DDS ", "a DDS"),
    (b"data:", "the text of a data URL"),
)
_RIFF = {b"AVI ": "an AVI video", b"WAVE": "a WAV sound"}
_VIDEO = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free"})
_SEQUENCES = frozenset({b"hevc", b"hevx", b"msf1"})
# What may come before a tag: a declaration, a document type with entities, comments. Unambiguous, so that
# matching never backtracks.
_FRONT = rb"(?:\xef\xbb\xbf)?(?>\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>)*+"
_SVG = re.compile(_FRONT + rb"<(?:svg:)?svg[\s>/]", re.DOTALL | re.IGNORECASE)
_HTML = re.compile(_FRONT + rb"<(?:html|head|body|title|meta|script)[\s>/]", re.DOTALL | re.IGNORECASE)
_HTML_TYPE = re.compile(rb"\s*<!DOCTYPE\s+html", re.IGNORECASE)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]{4,}")


def name(data: bytes) -> str | None:
    """Return the kind of file with its article, or None if it is unknown."""
    for start, kind in _SIGNATURES:
        if data.startswith(start):
            return kind
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12])
    if data[4:8] in _VIDEO:
        return _video(data[8:12])
    return _text_kind(data[:_EXAMINED])


def _video(brand: bytes) -> str:
    if brand in _SEQUENCES:
        return "a HEIC sequence"
    return "a QuickTime video (MOV)" if brand == b"qt  " else "an MP4 video"


def _text_kind(text: bytes) -> str | None:
    if _SVG.match(text):
        return "an SVG"
    if _HTML_TYPE.match(text) or _HTML.match(text):
        return "an HTML page"
    if not _TEXT.fullmatch(text):
        return None
    match text.lstrip()[:1]:
        case b"<":
            return "an XML file"
        case b"{" | b"[":
            return "JSON"
    return "text"
