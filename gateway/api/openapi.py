"""`GET /openapi.json`: the API described, from the types that requests are checked and answers written by."""

from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.routing import Route

from gateway import errors
from gateway.api.examples import of_routes
from gateway.api.operations import EVERY, OPERATIONS, Operation
from gateway.errors import GatewayError

REF = "#/components/schemas/{model}"

ERROR: dict[str, Any] = {
    "type": "object",
    "description": "OpenAI's error object.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}


def describe(app: FastAPI, model: str) -> None:
    """Have `app` describe its routes; the examples are for `model`."""
    described = cache(lambda: _document(app, model))
    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield the method and the path of every route of `app` that is part of the API."""
    for route in app.routes:
        if isinstance(route, Route) and route.include_in_schema:
            for method in sorted(route.methods or ()):
                yield method, route.path_format


def _document(app: FastAPI, model: str) -> dict[str, Any]:
    found = {key: OPERATIONS[key] for key in operations(app) if key in OPERATIONS}
    schemas, components = _schemas(found)
    examples = of_routes(model)
    paths: dict[str, Any] = {}
    for key, operation in found.items():
        method, path = key
        described = _operation(key, operation, schemas)
        if key in examples:
            described["requestBody"]["content"]["application/json"]["example"] = examples[key]
        paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llava-gateway",
            "version": version("llava-gateway"),
            "description": "OpenAI's API in front of LLaVA-1.5.",
        },
        "paths": paths,
        "security": [{}, {"key": []}],
        "components": {
            "schemas": {**components, "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_Mode = Literal["validation", "serialization"]


def _schemas(
    found: dict[tuple[str, str], Operation],
) -> tuple[dict[tuple[Any, str], dict[str, Any]], dict[str, Any]]:
    """Return the schema of each body and answer, by its type and mode, and the components they refer to."""
    kinds: dict[tuple[Any, _Mode], TypeAdapter[Any]] = {}
    for operation in found.values():
        for kind in (operation.body, operation.form):
            if kind is not None:
                kinds[kind, "validation"] = TypeAdapter(kind)
        for kind in (operation.answer, operation.events):
            if kind is not None and not isinstance(kind, str):
                kinds[kind, "serialization"] = TypeAdapter(kind)
    inputs = [((kind, mode), mode, adapter) for (kind, mode), adapter in kinds.items()]
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=REF)
    return {key: schema for (key, _), schema in schemas.items()}, definitions.get("$defs", {})


def _operation(
    key: tuple[str, str], operation: Operation, schemas: dict[tuple[Any, str], dict[str, Any]]
) -> dict[str, Any]:
    method, path = key
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{method.lower()}{path.translate(str.maketrans('/{}.-', '_____'))}",
        "responses": {"200": _answer(operation, schemas), **_errors(operation)},
    }
    for status, text in operation.others.items():
        described["responses"][str(status)] = {"description": text}
    steps = [step[1:-1] for step in path.split("/") if step.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in steps
    ]
    parameters += [{"name": name, "in": "query", "schema": kind} for name, kind in operation.query.items()]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": schemas[operation.body, "validation"]}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.form is not None:
        form = operation.form.model_json_schema(ref_template=REF)
        form.pop("$defs", None)  # They are among the components.
        form["properties"]["file"] = {"type": "string", "format": "binary"}
        form["required"] = ["file", *form.get("required", ())]
        described["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return described


def _answer(operation: Operation, schemas: dict[tuple[Any, str], dict[str, Any]]) -> dict[str, Any]:
    if isinstance(operation.answer, str):
        return {"description": "OK", "content": {operation.answer: {"schema": {"type": "string"}}}}
    content: dict[str, Any] = {"application/json": {"schema": schemas[operation.answer, "serialization"]}}
    if operation.events is not None:
        content["text/event-stream"] = {"schema": _event(schemas[operation.events, "serialization"])}
    return {"description": "OK", "content": content}


def _event(held: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one event, whose `data` is JSON: OpenAPI 3.1 has no word for a whole stream."""
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [held, {"$ref": REF.format(model="Error")}]},
    }
    return {
        "type": "object",
        "description": "One server-sent event.",
        "required": ["data"],
        "properties": {"event": {"type": "string"}, "data": {"anyOf": [{"const": "[DONE]"}, data]}},
    }


def _errors(operation: Operation) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF.format(model="Error")}}}
    return {
        str(status): {"description": _description(status), "content": content}
        for status in sorted({*EVERY, *operation.errors})
    }


@cache
def _description(status: int) -> str:
    """Return the name of `status` and the codes that errors of it have."""
    codes = [error.code for error in _tree(GatewayError) if error.status == status]
    return f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}"


def _tree(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    if kind.__module__ == errors.__name__:
        yield kind
        for child in kind.__subclasses__():
            yield from _tree(child)
