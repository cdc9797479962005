"""Attacks on what is stored: responses, files and batches."""

from typing import Any

from tests.hostile.doors import (
    BATCHES,
    FILES,
    GONE,
    HUGE,
    INVALID,
    JSON,
    LARGE,
    LONG,
    MISSING,
    PICTURE,
    RESPONSES,
    UNKNOWN,
    UNSUPPORTED,
    Door,
    batch,
    deep,
    raw,
    response,
    rows_of,
    shown,
)


def _item(**fields: Any) -> dict[str, Any]:
    return {"input": [fields]}


_FUNCTION = {"type": "function", "name": "f"}
OF_RESPONSES = [
    *rows_of(
        RESPONSES,
        response,
        {
            "another's response": ({"previous_response_id": "resp_nobody"}, "previous_response_not_found"),
            "response of NUL": ({"previous_response_id": "a\0"}, "previous_response_not_found"),
            "response of SQL": ({"previous_response_id": "' OR 1=1 --"}, "previous_response_not_found"),
            "response of 1 MB": ({"previous_response_id": "x" * 10**6}, "previous_response_not_found"),
            "an item of nobody": (_item(id="msg_x"), INVALID),
            "1,001 items of nobody": ({"input": [{"id": f"msg_{i}"} for i in range(1001)]}, INVALID),
            "60,000 items of nobody": ({"input": [{"id": f"msg_{i}"} for i in range(60_000)]}, INVALID),
            "10,000 messages": ({"input": [{"role": "user", "content": "x"}] * 10_000}, LONG),
            "no items": ({"input": []}, INVALID),
            "items that are an object": ({"input": {}}, INVALID),
            "an item that is a list": ({"input": [[]]}, INVALID),
            "only thoughts": (_item(type="reasoning", summary=[]), INVALID),
            "only a call": (_item(type="function_call", call_id="a", name="../x", arguments="{"), INVALID),
            "a result of no call": (_item(type="function_call_output", call_id="a", output="x"), INVALID),
            "17 pairs of metadata": ({"metadata": {str(i): "x" for i in range(17)}}, INVALID),
            "100,000 pairs of metadata": ({"metadata": {str(i): "x" for i in range(100_000)}}, INVALID),
            "metadata of 1 MB": ({"metadata": {"a": "x" * 10**6}}, INVALID),
            "metadata that nests": ({"metadata": {"a": {"b": "c"}}}, INVALID),
            "10,000 tools": ({"tools": [_FUNCTION | {"name": f"f{i}"} for i in range(10_000)]}, INVALID),
            "a tool's name of two lines": ({"tools": [_FUNCTION | {"name": "a\nb"}]}, INVALID),
            "one tool twice": ({"tools": [_FUNCTION] * 2}, INVALID),
            "a server's tools": ({"tools": [{"type": "mcp", "server_url": "http://127.0.0.1"}]}, UNSUPPORTED),
            "a choice that is not offered": ({"tool_choice": _FUNCTION}, INVALID),
            "a background": ({"background": True}, UNSUPPORTED),
            "17 times to include": ({"include": ["message.output_text.logprobs"] * 17}, INVALID),
            "instructions of 1 MB": ({"instructions": "a" * 10**6}, LONG),
            "no tokens": ({"max_output_tokens": 0}, INVALID),
            "10^9 tokens": ({"max_output_tokens": 10**9}, None),
            "its own id": ({"id": "resp_x"}, UNKNOWN),
        },
    ),
    *(
        Door(
            f"{RESPONSES} file {name!r}", RESPONSES, shown({"type": "input_image", "file_id": name}), PICTURE
        )
        for name in ("file-nobody", "../../etc/passwd", "\0", "' OR 1=1", "")
    ),
    Door("file URL", RESPONSES, shown({"type": "input_file", "file_url": "file:///etc/passwd"}), PICTURE),
    Door(
        "URL inside",
        RESPONSES,
        shown({"type": "input_file", "file_url": "http://169.254.169.254/"}),
        "image_fetch_failed",
    ),
    Door(
        "image from two places", RESPONSES, shown({"type": "input_image", "file_id": "a", "image_url": "b"})
    ),
    *(
        Door(f"metadata {value!r}", RESPONSES, raw(response(), b'"metadata":' + value))
        for value in (HUGE, deep(180))
    ),
    Door("count an item of nobody", f"{RESPONSES}/input_tokens", response(input=[{"id": "x"}])),
    *(
        Door(f"stored {name}", f"{RESPONSES}/{name}", code=GONE, status=404, method=method)
        for name, method in {"%00": "GET", "%ff": "DELETE", "..%2f..%2fetc": "GET", "x" * 8000: "GET"}.items()
    ),
    Door("stored, streamed", f"{RESPONSES}/x?stream=true", code=UNSUPPORTED, method="GET"),
    Door("10^20 items", f"{RESPONSES}/x/input_items?limit={10**20}", method="GET"),
]


_VISION = ("purpose", None, b"vision")
_FILE = ("file", b"x.png", b"x")


def form(*parts: tuple[str, bytes | None, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """Return a form of (name, file name, content), with the boundary `b`."""
    pieces = []
    for name, filename, content in parts:
        named = b"" if filename is None else b'; filename="%b"' % filename
        pieces.append(b'--b\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n' % (name.encode(), named))
        pieces.append(content + b"\r\n")
    return b"".join(pieces) + end


def _file(name: str, body: bytes, code: str | None = INVALID, **options: Any) -> Door:
    return Door(f"file: {name}", FILES, body, code, **{"kind": "multipart/form-data; boundary=b"} | options)


OF_FILES = [
    *(
        _file(f"named {name[:20]!r}", form(_VISION, ("file", name, b"x")), None)
        for name in (b"../../etc/passwd", b"a\0b", b"", b"\xff\xfe", b"<script>", b'a\\"b', b"n" * 3000)
    ),
    _file("named by 100 kB", form(_VISION, ("file", b"n" * 100_000, b"x"))),
    _file("of no bytes", form(_VISION, ("file", b"x", b"")), None),
    *(
        _file(f"purpose {value!r}", form(("purpose", None, value), _FILE))
        for value in (b"assistants", b"batch_output", b"vision\0", b"")
    ),
    _file("no purpose", form(_FILE), MISSING),
    _file("no file", form(_VISION), MISSING),
    _file("two files", form(_VISION, _FILE, _FILE)),
    _file("no end", form(_VISION, _FILE, end=b"")),
    _file("no form", b"x" * 10**6),
    _file("nothing", b""),
    _file("an end alone", b"--b--\r\n", MISSING),
    _file("a part without a name", b"--b\r\n\r\nx\r\n--b--\r\n", MISSING),
    _file("a header without a colon", b"--b\r\ncontent-disposition\r\n\r\nx\r\n--b--\r\n"),
    _file("NUL in a header's name", b"--b\r\n\0: x\r\n\r\nx\r\n--b--\r\n"),
    _file("20 headers", b"--b\r\n" + b"a: b\r\n" * 20 + b"\r\nx\r\n--b--\r\n"),
    _file("a header of 1 MB", b"--b\r\na: " + b"b" * 10**6 + b"\r\n\r\nx\r\n--b--\r\n"),
    _file("50,000 parts of one name", form(*[_VISION] * 50_000, _FILE)),
    _file("a field within a field", form(_VISION, ("expires_after[a][b]", None, b"1"), _FILE), MISSING),
    _file("a field of no name", form(_VISION, ("[a]", None, b"1"), _FILE), UNKNOWN),
    *(
        _file(f"as {kind}", form(_VISION, _FILE), kind=kind)
        for kind in (
            *("multipart/form-data", "multipart/form-data; boundary=", "application/json"),
            *("multipart/form-data; boundary=\xe9", f"multipart/form-data; boundary={'b' * 300}"),
        )
    ),
    *(
        Door(f"get {path}", f"{FILES}/{path}", code=GONE, status=404, method="GET")
        for path in ("%00", "%ff/content", "..%2f..%2fetc%2fpasswd", "'%20OR%201=1")
    ),
    *(
        Door(f"list {query}", f"{FILES}?{query}", code=code, method="GET")
        for query, code in {
            **dict.fromkeys(("limit=0", "limit=1e3", "limit=%D9%A3", "limit=+5", "after=%00"), INVALID),
            f"limit={10**20}": INVALID,
            "purpose[]=x": UNKNOWN,
            "&".join("a" * 2000): UNKNOWN,
        }.items()
    ),
    Door("put", f"{FILES}/x", code="method_not_allowed", status=405, method="PUT"),
]
OF_BATCHES = [
    *rows_of(
        BATCHES,
        batch,
        {
            "of nobody's file": ({}, INVALID),
            "of NUL": ({"input_file_id": "\0"}, INVALID),
            "to another address": ({"endpoint": "http://169.254.169.254/"}, INVALID),
            "to files": ({"endpoint": FILES}, INVALID),
            "within a second": ({"completion_window": "1s"}, INVALID),
            "17 pairs of metadata": ({"metadata": {str(i): "x" for i in range(17)}}, INVALID),
            "metadata of numbers": ({"metadata": {"a": 5}}, INVALID),
            "kept for a second": ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, INVALID),
        },
    ),
    Door("batch of 1 MB", BATCHES, batch(input_file_id="x" * 10**6), LARGE, 413),
    Door("batch of a list", BATCHES, b"[]", JSON),
    Door("batch of nothing", BATCHES, b"", JSON),
    Door("batch of NUL, asked for", f"{BATCHES}/%00", code=GONE, status=404, method="GET"),
    Door("batch of nobody, cancelled", f"{BATCHES}/x/cancel", code=GONE, status=404),
    Door("batches after nobody's", f"{BATCHES}?after=x", method="GET"),
    Door("101 batches", f"{BATCHES}?limit=101", method="GET"),
]
STORED = [*OF_RESPONSES, *OF_FILES, *OF_BATCHES]
