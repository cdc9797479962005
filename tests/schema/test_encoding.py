"""JSON in another encoding than UTF-8 is told as such."""

import pytest

from gateway.errors import InvalidJSON
from gateway.schema.validation import json_object

UMLAUT = '{"model": "ä"}'


@pytest.mark.parametrize(
    ("body", "got"),
    [
        (UMLAUT.encode("latin-1"), "byte 0xe4 at position 11: invalid continuation byte"),
        (b'{"model": "\xff"}', "byte 0xff at position 11: invalid start byte"),
        (UMLAUT.encode("utf-16"), "UTF-16"),
        (UMLAUT.encode("utf-16-be"), "UTF-16"),
        (UMLAUT.encode("utf-32-le"), "UTF-32"),
    ],
)
def test_another_encoding_is_named(body: bytes, got: str) -> None:
    with pytest.raises(InvalidJSON) as caught:
        json_object(body)
    assert caught.value.message == f"the body must be JSON in UTF-8; got {got}"


def test_what_is_utf_8_and_no_json_is_told_as_before() -> None:
    with pytest.raises(InvalidJSON) as caught:
        json_object('{"model": ä}'.encode())
    assert caught.value.message == "the body is not JSON: expected value at line 1 column 11"
