"""`GET /docs`: the API to read and to try, in Swagger UI. Nothing comes from another host."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from gateway.api.streaming import json_response

# Swagger UI as the package fastapi-offline carries it.
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon.png": "image/png",
}
PATHS = frozenset({"/docs", "/openapi.json", *(f"/docs/{name}" for name in ASSETS)})
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)


def router() -> APIRouter:
    """Return the page and what it needs."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/openapi.json", response_model=None)
    async def description(request: Request) -> Response:
        # Made at the first request, in a thread: it takes a good part of a second.
        return json_response(await asyncio.to_thread(request.app.openapi))

    @routes.get("/docs", response_model=None)
    async def page(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        html = get_swagger_ui_html(
            title="llava-gateway",
            openapi_url=f"{root}/openapi.json",
            swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/favicon.png",
        )
        html.headers["content-security-policy"] = POLICY
        return html

    for name, kind in ASSETS.items():
        routes.add_api_route(f"/docs/{name}", _asset(name, kind), response_model=None)
    return routes


def _asset(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    # Read once: over a megabyte for each client that takes its time would be memory that nothing bounds.
    content = files("fastapi_offline").joinpath("static", name).read_bytes()

    async def asset() -> Response:
        return Response(content, headers={"cache-control": "max-age=86400"}, media_type=kind)

    return asset
