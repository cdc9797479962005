"""`GET /`: a page to chat with the model, and to see what it saw. Nothing comes from another host."""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter, Response

KINDS = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE = "index.html"
ASSETS = (
    *(
        "answer.css",
        "api.js",
        "app.js",
        "chats.js",
        "code.js",
        "composer.js",
        "conversation.js",
        "elements.js",
    ),
    *("errors.js", "icons.js", "mark.svg", "markdown.js", "photo.js", "saw.js", "settings.js", "shapes.js"),
    *("status.js", "store.js", "style.css", "tokens.js", "turns.js", "vendor/marked.js", "vendor/purify.js"),
)
PATHS = frozenset({"/", *(f"/playground/{name}" for name in ASSETS)})
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def router() -> APIRouter:
    """Return the page and its files."""
    routes = APIRouter(include_in_schema=False)
    routes.add_api_route("/", _file(PAGE), response_model=None)
    for name in ASSETS:
        routes.add_api_route(f"/playground/{name}", _file(name), response_model=None)
    return routes


def _file(name: str) -> Callable[[], Awaitable[Response]]:
    content = files("gateway.playground").joinpath(name).read_bytes()
    kind = KINDS[name[name.rindex(".") :]]

    async def file() -> Response:
        return Response(content, headers=HEADERS, media_type=f"{kind}; charset=utf-8")

    return file
