"""Splits and joins URLs without normalising them, because a signed URL is valid only as it was written.

Only characters that a request line cannot have are encoded (RFC 9112, section 3). yarl and urllib would also
decode escapes and remove `.` and `..`.
"""

import re

# Scheme, authority, path and query. RFC 3986, appendix B.
_PARTS = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_UNSENDABLE = re.compile(r"[\0-\x20\x7f-\U0010ffff]+")
_BREAKS = str.maketrans("", "", "\t\r\n")


def split(text: str) -> tuple[str, str, str]:
    """Return scheme, authority and request target of an absolute URL.

    Line breaks, tabs and trailing spaces are removed, as browsers do
    (https://url.spec.whatwg.org/#concept-basic-url-parser).
    """
    scheme, authority, path, query = _parts(text.rstrip(" \t\r\n").translate(_BREAKS))
    return (scheme or "").lower(), authority or "", encoded((path or "/") + query)


def joined(base: str, location: str) -> str:
    """Return the URL that `location` means in a response from `base`. RFC 3986, section 5.2.2.

    Dots are resolved only in a relative path, which must be joined with that of `base`.
    """
    at, authority, from_path, from_query = _parts(base)
    scheme, host, path, query = _parts(location)
    if scheme is not None:
        return location
    if host is not None:
        return f"{at}:{location}"
    if not path:
        path, query = from_path, query or from_query
    elif not path.startswith("/"):
        path = _without_dots(from_path[: from_path.rfind("/") + 1] + path)
    return f"{at}://{authority}{path}{query}"


def encoded(target: str) -> str:
    """Return `target` with spaces, control characters and non-ASCII characters percent-encoded as UTF-8.

    Bytes of a header that are not UTF-8 are kept (aiohttp decodes them with `surrogateescape`).
    """
    return _UNSENDABLE.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogateescape")), target
    )


def _parts(text: str) -> tuple[str | None, str | None, str, str]:
    found = _PARTS.fullmatch(text)
    assert found is not None  # every part may be missing
    return found[1], found[2], found[3], found[4] or ""


def _without_dots(path: str) -> str:
    """Resolve `.` and `..`. RFC 3986, section 5.2.4."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            del kept[max(1, len(kept) - 1) :]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/".join(kept)
