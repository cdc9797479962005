"""A `multipart/form-data` body with one file in it, in bounded memory: the file is written as it arrives.

Format: RFC 7578. The parser is python-multipart's, which bounds a part's headers itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.errors import BodyTooLarge, InvalidValue, MissingParameter, UnknownParameter
from gateway.schema.paths import short

FIELD_MAX_BYTES: Final = 1024  # of a field that is not the file
FIELDS_MAX: Final = 20
NAME_MAX: Final = 255  # characters of a file's name, as most file systems have it
FORM_MAX_BYTES: Final = 2**16  # everything in the body but the file


class Sink(Protocol):
    """Where the file goes."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes of the file."""


Open = Callable[[str], Awaitable[Sink]]  # from the file's name; called once, when the file begins


@dataclass
class _Part:
    name: str
    filename: str | None
    data: bytearray = field(default_factory=bytearray)


async def read(
    content_type: str, body: AsyncIterator[bytes], open_file: Open, *, max_bytes: int, chunk_bytes: int
) -> dict[str, str]:
    """Write the part `file` to what `open_file` returns, and return the other fields.

    It is written in pieces of `chunk_bytes` and the rest. Raises BodyTooLarge for a file over `max_bytes`,
    MissingParameter where there is none, and InvalidValue for a body that is no such form.
    """
    form = _Form(content_type)
    sink: Sink | None = None
    size = 0
    async for data in body:
        form.feed(data)
        if form.file is None:
            continue
        if sink is None:
            sink = await open_file(form.file.filename or "")
        pending = form.file.data
        while len(pending) >= chunk_bytes or (form.ended and pending):
            piece = bytes(pending[:chunk_bytes])
            del pending[:chunk_bytes]
            size += len(piece)
            if size > max_bytes:
                raise BodyTooLarge(f"file: the file is over the limit of {max_bytes} bytes", param="file")
            await sink.write(piece)
    if not form.ended:
        raise InvalidValue("the body is not valid multipart/form-data: it ends too early")
    if sink is None:
        raise MissingParameter("file: this field is required", param="file")
    return form.fields


class _Form:
    """What the parser's callbacks found so far."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidValue("the body must be multipart/form-data, with its boundary in the content type")
        self.fields: dict[str, str] = {}
        self.file: _Part | None = None
        self.ended = False
        self._parts = 0
        self._part = _Part("", None)
        self._header = [bytearray(), bytearray()]  # name, value
        self._disposition = b""
        self._parser = _parser(options[b"boundary"], self)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidValue(f"the body is not valid multipart/form-data: {error}") from None

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > FIELDS_MAX + 1:  # and the file; of one name they would be one field
            raise InvalidValue(f"the form has more fields than the limit of {FIELDS_MAX}")
        self._disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = [bytearray(), bytearray()]

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        filename = options.get(b"filename")
        self._part = _Part(name, None if filename is None else _base_name(filename))
        if name == "file":
            if self.file is not None:
                raise InvalidValue("file: there must be one file; got more", param="file")
            self.file = self._part
        elif filename is not None:
            raise UnknownParameter(f"{short(name)}: there is no such file field", param=short(name))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part.data += memoryview(data)[start:end]
        if self._part is not self.file and len(self._part.data) > FIELD_MAX_BYTES:
            name = short(self._part.name)
            raise InvalidValue(f"{name}: the field is over the limit of {FIELD_MAX_BYTES} bytes", param=name)

    def on_part_end(self) -> None:
        if self._part is not self.file:
            self.fields[self._part.name] = self._part.data.decode(errors="replace")

    def on_end(self) -> None:
        self.ended = True


def _parser(boundary: bytes, form: _Form) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": form.on_part_begin,
                "on_header_field": form.on_header_field,
                "on_header_value": form.on_header_value,
                "on_header_end": form.on_header_end,
                "on_headers_finished": form.on_headers_finished,
                "on_part_data": form.on_part_data,
                "on_part_end": form.on_part_end,
                "on_end": form.on_end,
            },
        )
    except FormParserError as error:
        raise InvalidValue(f"the body is not valid multipart/form-data: {error}") from None


def _base_name(filename: bytes) -> str:
    """Return the name alone: some clients send a whole path."""
    return filename.decode(errors="replace").replace("\\", "/").rpartition("/")[2][:NAME_MAX]
