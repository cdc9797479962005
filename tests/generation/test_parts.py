"""Every form in which clients send text and images is read, and errors name the field."""

from typing import Any

import orjson
import pytest

from gateway.errors import RequestError
from gateway.generation import chat
from gateway.generation.request import InputImage
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.validation import parse
from tests.each import each

URL = "https://example.com/cat.png"
DATA = "data:image/png;base64,aGVsbG8="
BARE = "data:;base64,aGVsbG8="


def read(part: dict[str, Any]) -> str | InputImage:
    """Return what `part` is read as, in the second place of the first message."""
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}
    (message,) = chat.read(parse(orjson.dumps(body), ChatCompletionRequest), "", "").messages
    assert message.parts[0] == "x"
    return message.parts[1]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "Q"},
        {"type": "text", "text": "Q", "cache_control": {"type": "ephemeral"}, "options": None},
        {"type": "input_text", "text": "Q"},
        {"type": "output_text", "text": "Q", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "Q"},
        {"type": "resource", "resource": {"uri": "a:b", "mimeType": "text/plain", "text": "Q"}},
    ],
)
def test_text_is_read(part: dict[str, Any]) -> None:
    assert read(part) == "Q"


IMAGES: list[tuple[dict[str, Any], str, str]] = [
    # OpenAI's chats; the URL alone is LangChain's and LiteLLM's
    ({"type": "image_url", "image_url": {"url": URL, "detail": "high"}}, URL, "image_url.url"),
    ({"type": "image_url", "image_url": URL}, URL, "image_url"),
    ({"type": "image_url", "image_url": {"url": DATA}, "uuid": "1"}, DATA, "image_url.url"),
    # OpenAI's Responses
    ({"type": "input_image", "image_url": URL, "detail": "auto"}, URL, "image_url"),
    # files that hold a picture
    ({"type": "file", "file": {"file_data": DATA, "filename": "a.png"}}, DATA, "file.file_data"),
    ({"type": "file", "file": {"file_data": "aGVsbG8="}}, BARE, "file.file_data"),
    # LangChain's blocks, v0 and v1
    ({"type": "image", "source_type": "base64", "data": "aGVsbG8=", "mime_type": "image/png"}, BARE, "data"),
    ({"type": "image", "source_type": "url", "url": URL}, URL, "url"),
    ({"type": "image", "base64": "aGVsbG8=", "mime_type": "image/png", "id": "lc_1"}, BARE, "base64"),
    ({"type": "image", "url": URL, "extras": {"a": 1}, "index": 0}, URL, "url"),
    # tool servers'
    ({"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}, BARE, "data"),
    (
        {"type": "resource", "resource": {"uri": "a:b", "mimeType": "image/png", "blob": "aGVsbG8="}},
        BARE,
        "resource.blob",
    ),
    # Anthropic's
    (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}},
        BARE,
        "source.data",
    ),
    ({"type": "image", "source": {"type": "url", "url": URL}}, URL, "source.url"),
]


@each(("part", "url", "param"), IMAGES)
def test_an_image_is_read_and_its_field_known(part: dict[str, Any], url: str, param: str) -> None:
    assert read(part) == InputImage(url, f"messages[0].content[1].{param}")


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_image", "file_id": "file-1"}, "file_id"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file.file_id"),
        ({"type": "image", "file_id": "file-1"}, "file_id"),
        ({"type": "image", "source": {"type": "file", "file_id": "file-1"}}, "source.file_id"),
    ],
)
def test_an_uploaded_image_is_named_by_its_id(part: dict[str, Any], param: str) -> None:
    assert read(part) == InputImage("", f"messages[0].content[1].{param}", "file-1")


@each(
    ("part", "param"),
    [
        ({"type": "image"}, ""),
        ({"type": "image", "url": URL, "base64": "aGVsbG8="}, ""),
        ({"type": "image", "source": {"type": "base64"}}, ".source"),
        ({"type": "image", "source": "x"}, ".source"),
        ({"type": "image", "url": 5}, ".url"),
        ({"type": "file", "file": {}}, ".file"),
        ({"type": "image_url", "image_url": 5}, ".image_url"),
        ({"type": "image_url", "image_url": {}}, ".image_url.url"),
        ({"type": "text", "text": "x", "image_url": {"url": URL}}, ".image_url"),
        ({"type": "input_audio", "input_audio": {"data": ""}}, ".input_audio"),
    ],
)
def test_what_is_no_part_is_refused_by_its_field(part: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(part)
    assert caught.value.param == f"messages[0].content[1]{param}"
