"""What a request body may be, by its headers: its media type, and how it is compressed."""

import asyncio
import zlib

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from gateway.errors import BodyTooLarge, InvalidValue, UnsupportedMediaType

# What a browser sends to another site without asking that site first ("CORS-safelisted request-header" in
# https://fetch.spec.whatwg.org): with one of these, any web page could use its visitor's access.
FORMS = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
IDENTITY = frozenset({"", "identity"})
GZIP = frozenset({"gzip", "x-gzip"})

BOM = b"\xef\xbb\xbf"

SLICE = 2**18  # bytes inflated at once: about half a millisecond of the event loop
FREE = 2**20  # bytes that any gzip body may become
MOST_RATIO = 20  # bytes for each that arrived, beyond FREE; JSON with pictures in base64 has less than 2


def check_json(headers: Headers) -> None:
    """Refuse what cannot be a JSON body. A missing or odd content type passes.

    Raises UnsupportedMediaType (415), which names what it got.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in FORMS:
        raise UnsupportedMediaType(f"content-type: got '{kind}'; send 'application/json'")
    if not kind and "origin" in headers:
        raise UnsupportedMediaType("content-type: missing; browsers must send 'application/json'")
    coding = _coding(headers)
    if coding not in IDENTITY | GZIP:
        raise UnsupportedMediaType(f"content-encoding: got '{coding[:60]}'; only 'gzip' is supported")


def inflated(headers: Headers, receive: Receive) -> Receive:
    """Return `receive`, or where the body is gzip one that returns it inflated."""
    return Gunzip(receive).receive if _coding(headers) in GZIP else receive


def _coding(headers: Headers) -> str:
    return headers.get("content-encoding", "").strip().lower()


class Gunzip:
    """Inflates a body while it arrives, a slice at a time.

    `receive` raises InvalidValue where the body is not gzip, and BodyTooLarge for a compression bomb.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._waiting = b""
        self._unfinished = False  # whether there may be more in what has arrived
        self._more = True
        self._arrived = 0
        self._inflated = 0

    async def receive(self) -> Message:
        if self._unfinished:
            await asyncio.sleep(0)  # others' turn
        else:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._waiting = message.get("body", b"")
            self._arrived += len(self._waiting)
            self._more = message.get("more_body", False)
        part = self._slice()
        if not (self._more or self._unfinished or self._inflater.eof):
            raise InvalidValue("the request body's gzip ends early")
        return {"type": "http.request", "body": part, "more_body": self._more or self._unfinished}

    def _slice(self) -> bytes:
        try:
            part = self._inflater.decompress(self._waiting, SLICE)
        except zlib.error as error:
            raise InvalidValue(f"the request body is not gzip: {error}") from None
        if self._inflater.unused_data:
            raise InvalidValue("the request body goes on after its gzip has ended")
        self._waiting = self._inflater.unconsumed_tail
        # zlib may hold some output back although it has taken all of the input.
        self._unfinished = not self._inflater.eof and (bool(self._waiting) or len(part) == SLICE)
        self._inflated += len(part)
        if self._inflated > max(FREE, MOST_RATIO * self._arrived):
            raise BodyTooLarge(
                f"the request body's {self._arrived} bytes of gzip become over {self._inflated - len(part)}; "
                f"the limit beyond {FREE} bytes is {MOST_RATIO} for each"
            )
        return part
