"""Parses the source of an image: base64 in the request, a web URL, or an uploaded file."""

import math
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

import pybase64
from yarl import URL

from gateway.errors import ImageError, ImageTooLarge
from gateway.images import urls

_DATA_HEADER_MAX = 1000
_WEB_URL_MAX = 8192
_HOST_NAME_MAX = 253
# Other spellings of base64's letters, and spaces between them.
_AS_BASE64 = (
    *((f"%{code}", letter) for code, letter in (("2B", "+"), ("2b", "+"), ("2F", "/"), ("2f", "/"))),
    *((f"%{code}", letter) for code, letter in (("3D", "="), ("3d", "="), ("2D", "+"), ("2d", "+"))),
    *((f"%{code}", letter) for code, letter in (("5F", "/"), ("5f", "/"))),
    *((f"%{code}", "") for code in ("20", "09", "0A", "0a", "0D", "0d")),
    *((space, "") for space in " \t\r\n\v\f"),
    ("-", "+"),
    ("_", "/"),
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True)
class DataURL:
    """A `data:` URL (RFC 2397) whose base64 text begins at `start`; the text is not copied."""

    url: str = field(repr=False)
    start: int

    @property
    def at_most(self) -> int:
        """The maximum bytes that the base64 can have: three per four characters."""
        return -(-(len(self.url) - self.start) // 4) * 3


@dataclass(frozen=True, slots=True)
class WebURL:
    """An http or https URL with a host and without credentials."""

    url: URL


@dataclass(frozen=True, slots=True)
class FileID:
    """The id of a file that the caller uploaded."""

    id: str


Source = DataURL | WebURL | FileID


def parse(url: str, *, param: str, max_bytes: int) -> DataURL | WebURL:
    """Return the source that `url` names, checked as far as possible without decoding or fetching.

    Raises ImageError, or ImageTooLarge for base64 of more than `max_bytes` bytes; `param` is the part's path.
    """
    if len(url) > _WEB_URL_MAX and not url.isascii():
        # With one such character Python would take four bytes for each character of the URL.
        raise ImageError(f"{param}: a data URL must consist of ASCII characters", param=param)
    scheme, colon, _ = url[:_DATA_HEADER_MAX].partition(":")
    if not colon:
        raise ImageError(f"{param}: the URL must begin with data:, http: or https:", param=param)
    if scheme.strip().lower() == "data":
        return _parse_data(url, param, max_bytes)
    if scheme.lower() not in {"http", "https"}:
        raise ImageError(
            f"{param}: the URL's scheme must be data, http or https, not {scheme[:20]!r}", param=param
        )
    try:
        return WebURL(web_url(url))
    except ValueError as error:
        raise ImageError(f"{param}: {error}", param=param) from None


def _parse_data(url: str, param: str, max_bytes: int) -> DataURL:
    """Find the base64 text. White space around and within the header is skipped, as browsers do."""
    header, comma, _ = url[:_DATA_HEADER_MAX].partition(",")
    if not comma or not "".join(header.split()).lower().endswith(";base64"):
        raise ImageError(f"{param}: a data URL must have the form data:image/…;base64,…", param=param)
    source = DataURL(url, len(header) + 1)
    # Four characters stand for three bytes, up to two characters of which may be padding.
    at_least = (len(url) - source.start) * 3 // 4 - 2
    if at_least > max_bytes:
        at_least -= sum(map(url.count, " \t\r\n")) * 3 // 4
    if at_least > max_bytes:
        raise ImageTooLarge(f"{param}: {too_large(at_least, max_bytes)}", param=param)
    return source


def web_url(text: str) -> URL:
    """Return `text` as an HTTP(S) URL without fragment; raises ValueError with the reason if it is not one.

    Path and query stay as they were written (`gateway.images.urls`). Hosts are names or IP addresses in their
    usual spelling; others that some resolvers accept (`127.1`, `0x7f000001`, `2130706433`;
    https://url.spec.whatwg.org/#ends-in-a-number-checker) are refused.
    """
    if len(text) > _WEB_URL_MAX:
        raise ValueError(f"the URL has {len(text)} characters; the limit is {_WEB_URL_MAX}")
    try:
        scheme, authority, target = urls.split(text)
        origin = URL(f"{scheme}://{authority}") if scheme and authority else URL()
        host, port = origin.raw_host, origin.port
    except (ValueError, IndexError):  # yarl raises the second for `http://[]@/`
        raise ValueError("the URL is not valid") from None
    if scheme not in {"http", "https"}:
        raise ValueError("the URL's scheme must be http or https")
    if not host or not port:
        raise ValueError("the URL has no host")
    if origin.raw_user is not None or origin.raw_password is not None:
        raise ValueError("the URL must not contain a user name or password")
    if address_of(host) is None and not _is_host_name(host):
        raise ValueError("the URL's host is neither a name nor an IP address in its usual spelling")
    # Host and port are the checked ones; yarl leaves the rest unchanged.
    return URL(str(origin.origin()) + target, encoded=True)


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """Return `host` as an IP address, or None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_host_name(host: str) -> bool:
    name = host.removesuffix(".")
    return (
        len(name) <= _HOST_NAME_MAX
        and _HOST_NAME.fullmatch(name) is not None
        and _NUMBER.fullmatch(name.rpartition(".")[2]) is None
    )


def decode_base64(source: DataURL, *, max_bytes: int) -> bytes:
    """Return the decoded bytes. Raises ImageError for invalid base64, ImageTooLarge beyond `max_bytes`."""
    text = source.url[source.start :]
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError:
        data = _decode_leniently(text)
    if not data:
        raise ImageError("the data URL is empty")
    if len(data) > max_bytes:
        raise ImageTooLarge(too_large(len(data), max_bytes))
    return data


def _decode_leniently(text: str) -> bytes:
    """Decode base64 that is wrapped, percent-encoded, URL-safe or without padding."""
    # Not urllib's `unquote`: it handles megabytes of percent signs one by one, and holds the GIL.
    for written, meant in _AS_BASE64:
        text = text.replace(written, meant)
    packed = text.rstrip("=")
    try:
        return pybase64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except ValueError:
        raise ImageError("the data URL is not valid base64") from None


def too_large(size: int, limit: int) -> str:
    """Return the message that `size` exceeds `limit`, rounded up so that the two never look the same."""
    if limit < 2**20:
        return f"the image has {size} bytes; the limit is {limit}"
    return f"the image is {math.ceil(size / 2**20 * 10) / 10:g} MB; the limit is {limit / 2**20:.3g} MB"
