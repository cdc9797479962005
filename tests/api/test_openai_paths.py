"""Every endpoint that OpenAI's own package calls is served, or refused with 400 `unsupported_endpoint`.

Never with 404: LiteLLM's proxy takes a whole deployment out of service for one.
"""

import ast
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import httpx2
import pytest

from gateway.api.operations import OPERATIONS
from tests.servers import Gateway

CALLS = {"_get": "GET", "_get_api_list": "GET", "_post": "POST", "_put": "PUT", "_delete": "DELETE"}
SERVED = [(method, re.sub(r"\{[^}]*\}", "[^/]+", path)) for method, path in OPERATIONS]


def called(source: Path) -> Iterator[tuple[str, str]]:
    """Yield method and path of every call that a module of the package makes, with `x` for each id."""
    for node in ast.walk(_without_twins(ast.parse(source.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            method = ast.literal_eval(named["method"]).upper() if "method" in named else CALLS[node.func.attr]
            yield method, f"/v1{written(node.args[0])}"


def _without_twins(module: ast.Module) -> ast.Module:
    """Return `module` without its asynchronous classes: each is another's twin."""
    body = [node for node in module.body if not getattr(node, "name", "").startswith("Async")]
    return ast.Module(body, [])


def written(path: ast.expr) -> str:
    """Return a path as it is sent: a text, or a template as the first argument of a call."""
    if isinstance(path, ast.Call):
        path = path.args[0]
    return re.sub(r"\{[^}]*\}", "x", ast.literal_eval(path).partition("?")[0])


def is_served(method: str, path: str) -> bool:
    return any(method == known and re.fullmatch(pattern, path) for known, pattern in SERVED)


@pytest.mark.slow
async def test_no_endpoint_of_openais_package_is_unknown(served: Gateway) -> None:
    resources = Path(str(files("openai"))) / "resources"
    endpoints = {call for source in resources.rglob("*.py") for call in called(source)}
    assert len(endpoints) > 300
    served_here = {endpoint for endpoint in endpoints if is_served(*endpoint)}
    assert {("POST", "/v1/chat/completions"), ("GET", "/v1/files/x/content")} < served_here
    async with httpx2.AsyncClient(base_url=served.url, trust_env=False, timeout=30) as client:
        for method, path in sorted(endpoints - served_here):
            answer = await client.request(method, path)
            got = (answer.status_code, answer.json()["error"]["code"])
            assert got == (400, "unsupported_endpoint"), f"{method} {path}: {got}"
