"""The check of bodies finds what it is for."""

from typing import Any

import orjson
import pytest

from tools.conformance.bodies import check

USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
MESSAGE = {"role": "assistant", "content": "A.", "refusal": None}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop", "logprobs": None}
GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [CHOICE],
    "usage": USAGE,
    "system_fingerprint": "fp_1",
}
ERROR = {"message": "x", "type": "server_error", "param": None, "code": "c"}
CHAT = "POST /v1/chat/completions"


def found(body: Any, status: int = 200) -> list[str]:
    return check(CHAT, status, "application/json", orjson.dumps(body))


def test_what_is_right_is_not_complained_about() -> None:
    assert found(GOOD) == []
    assert found({"error": ERROR}, 500) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"created": "1"},
        {"object": "chat"},
        {"system_fingerprint": None},
        {"colour": "red"},
        {"choices": [CHOICE | {"finish_reason": "abort"}]},
        {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]},
        {"choices": [CHOICE | {"message": {"role": "assistant", "content": "A."}}]},
    ],
)
def test_what_is_wrong_is_found(fields: dict[str, Any]) -> None:
    assert found(GOOD | fields)


@pytest.mark.parametrize("name", ERROR)
def test_an_error_has_all_its_keys(name: str) -> None:
    assert found({"error": {key: value for key, value in ERROR.items() if key != name}}, 400)


def test_every_event_of_a_stream_is_looked_at() -> None:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "A"}, "finish_reason": None}],
    }
    right, wrong = orjson.dumps(chunk), orjson.dumps(chunk | {"created": None})

    def stream(*events: bytes) -> list[str]:
        return check(CHAT, 200, "text/event-stream", b"".join(b"data: %b\n\n" % event for event in events))

    assert stream(right, b"[DONE]") == []
    assert stream(right, wrong, b"[DONE]")
    assert stream(right, b'{"error":{}}')
    assert check(CHAT, 200, "text/event-stream", b"data: " + right)
