"""Whatever JSON comes, it is a request or the client's error."""

import contextlib
import operator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.parameters import CHAT
from gateway.schema.validation import parse
from tests.api.asking import ask
from tests.servers import Gateway

pytestmark = pytest.mark.slow

INTEGERS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | INTEGERS | FLOATS | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
NAMES = sorted({row.field for row in CHAT.rows() if "." not in row.field} - {"model", "messages"})
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url"]) | JSON},
    optional={
        "text": st.text(max_size=20) | JSON,
        "image_url": st.fixed_dictionaries({"url": st.text()}) | JSON,
    },
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]) | JSON},
    optional={"content": st.text(max_size=20) | st.lists(PARTS, max_size=3) | JSON, "name": JSON},
)
# Whole requests in which little is wrong, so that what lies behind the first check is reached too.
REQUESTS = st.builds(
    operator.or_,
    st.fixed_dictionaries(
        {"model": st.just("llava-demo") | JSON, "messages": st.lists(MESSAGES, max_size=3) | JSON}
    ),
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5),
)


@given(JSON | REQUESTS)
def test_any_json_is_a_request_or_the_clients_error(content: Any) -> None:
    with contextlib.suppress(RequestError):
        assert parse(orjson.dumps(content), ChatCompletionRequest).messages


@given(st.binary(max_size=50))
def test_any_bytes_are_a_request_or_the_clients_error(content: bytes) -> None:
    with contextlib.suppress(RequestError):
        assert parse(content, ChatCompletionRequest).model


@settings(deadline=None, max_examples=60)
@given(content=JSON | REQUESTS)
async def test_no_json_body_is_answered_with_a_500(served: Gateway, content: Any) -> None:
    answer = await ask(served, orjson.dumps(content))
    assert answer.status in {200, 400, 404}
    if answer.status != 200:
        assert answer.error["type"] == "invalid_request_error"
