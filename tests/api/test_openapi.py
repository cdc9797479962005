"""The API's description is whole, and the docs page needs nobody else."""

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from engine_config.profile import load as load_profile
from gateway.api.examples import of_routes
from gateway.api.openapi import operations as routes
from gateway.api.operations import OPERATIONS
from gateway.api.routes.docs import ASSETS
from gateway.app import create_app
from gateway.errors import GenerationFailed
from gateway.settings import Settings
from tests.api.asking import send
from tests.each import each
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, scripted_gateway

EXAMPLES = of_routes("llava-demo")


@pytest.fixture(scope="module")
async def document(served: Gateway) -> dict[str, Any]:
    answer = await send(served, "GET", "/openapi.json")
    assert answer.status == 200
    found: dict[str, Any] = orjson.loads(answer.body)
    return found


def references(inside: Any) -> Iterator[str]:
    if isinstance(inside, dict):
        if isinstance(ref := inside.get("$ref"), str):
            yield ref
        for value in inside.values():
            yield from references(value)
    elif isinstance(inside, list):
        for value in inside:
            yield from references(value)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert len(found) > 20
    for reference in found:
        assert reference.startswith("#/components/schemas/")
        assert reference.rpartition("/")[2] in document["components"]["schemas"]


def test_every_schema_is_one(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_route_is_described_and_nothing_else(document: dict[str, Any]) -> None:
    """A route that is new stands in `gateway/api/operations.py`."""
    app = create_app(Settings(), load_profile("demo"), lambda _: ScriptedEngine(), lambda _: None)
    assert set(routes(app)) == set(OPERATIONS)
    assert {(method, path) for method, path, _ in operations(document)} == set(OPERATIONS)


def test_every_error_has_openais_object(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        statuses = {int(status) for status in operation["responses"]}
        assert {200, 401, 500} <= statuses, (method, path)
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and int(status) not in OPERATIONS[method, path].others:
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for *_, operation in operations(document)]
    assert len(names) == len(set(names))


def test_the_examples_are_in_the_description(document: dict[str, Any]) -> None:
    needs_a_file = ("POST", "/v1/batches")  # that was uploaded before: tests/api/test_batches.py
    shown = {
        (method, path): content["example"]
        for method, path, operation in operations(document)
        for content in [operation.get("requestBody", {}).get("content", {}).get("application/json")]
        if content is not None and (method, path) != needs_a_file
    }
    assert shown == EXAMPLES


@pytest.mark.parametrize(("method", "path"), EXAMPLES)
async def test_an_example_is_answered_as_described(
    served: Gateway, document: dict[str, Any], method: str, path: str
) -> None:
    answer = await send(served, method, path, json=EXAMPLES[method, path])
    assert answer.status == 200, answer.body
    described = document["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]
    schema = described["schema"] | {"components": document["components"]}
    Draft202012Validator(schema).validate(orjson.loads(answer.body))


CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
NOTE = {"name": "note", "parameters": {"type": "object"}}
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"stream_options": {"include_usage": True}, "logprobs": True}),
    "call": (CHAT, {"tools": [{"type": "function", "function": NOTE}]}),
    "text": ("/v1/completions", {"logprobs": 1}),
    "response": (RESPONSES, {}),
    "response's call": (RESPONSES, {"tools": [{"type": "function", **NOTE}]}),
}


@each("broken", [None, GenerationFailed("it died")])
@each("name", STREAMS)
async def test_the_events_of_a_stream_are_as_described(
    document: dict[str, Any], name: str, broken: Exception | None
) -> None:
    path, fields = STREAMS[name]
    words = (" @no", "te {", "}") if "tools" in fields else (" A", " red", " circle.")
    async with scripted_gateway(ScriptedEngine(words, error=broken, fails_at=2)) as gateway:
        body = EXAMPLES["POST", path] | fields | {"stream": True}
        answer = await send(gateway, "POST", path, json=body)
    assert answer.status == 200, answer.body
    described = document["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    held = described["properties"]["data"]["anyOf"][1]["contentSchema"]
    components = {"components": document["components"]}
    told = [
        dict(line.split(": ", 1) for line in event.splitlines())
        for event in answer.body.decode().split("\n\n")[:-1]
    ]
    for event in told:
        Draft202012Validator(described).validate(event)
        if event["data"] != "[DONE]":
            Draft202012Validator(held | components).validate(orjson.loads(event["data"]))
    assert len(told) > 2
    assert ("it died" in told[-1]["data"]) is (broken is not None)


async def test_the_docs_page_takes_everything_from_here(served: Gateway) -> None:
    page = await send(served, "GET", "/docs")
    assert page.status == 200
    # The policy has a browser enforce what the text shows.
    assert "default-src 'self'" in page.headers["content-security-policy"]
    html = page.body.decode()
    assert "http://" not in html
    assert "https://" not in html
    wanted = set(re.findall(r'(?:src|href)="([^"]+)"', html)) | set(re.findall(r"url: '([^']+)'", html))
    assert wanted == {"/openapi.json", *(f"/docs/{name}" for name in ASSETS)}
    for path in wanted:
        assert (await send(served, "GET", path)).status == 200


async def test_the_docs_are_open_where_keys_are_asked_for() -> None:
    async with scripted_gateway(ScriptedEngine(), api_keys=("sk-1",)) as gateway:
        for path in ("/docs", "/openapi.json", "/docs/swagger-ui.css"):
            assert (await send(gateway, "GET", path)).status == 200
        assert (await send(gateway, "GET", "/v1/models")).status == 401
