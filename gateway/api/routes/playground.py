"""`GET /`: a page to chat with the model, and to see what it saw. Nothing comes from another host."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import orjson
from fastapi import APIRouter, Response

from gateway.settings import Settings

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
SETUP: Final = "/playground/setup.json"
EXAMPLE: Final = "/playground/examples/{number}"
EXAMPLE_IMAGES: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
EXAMPLES_MAX: Final = 12
PATHS = frozenset(
    {
        *("/", SETUP),
        *(f"/playground/{name}" for name in ASSETS),
        *(EXAMPLE.format(number=number) for number in range(EXAMPLES_MAX)),
    }
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": f"{POLICY}'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class ExamplesError(ValueError):
    """The folder of examples cannot be used."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question about an image, to try the model with."""

    text: str
    image: bytes
    media_type: str


def examples_problem(settings: Settings) -> str | None:
    """Return why the examples cannot be shown, or None."""
    try:
        load_examples(settings.playground_examples)
    except ExamplesError as error:
        return f"GATEWAY_PLAYGROUND_EXAMPLES={error}"
    return None


def load_examples(folder: Path | None) -> tuple[Example, ...]:
    """Return the examples in `folder`, by name: `NAME.jpg`, `.png` or `.webp`, its question in `NAME.txt`.

    Without a folder there are none. Raises ExamplesError if the folder has none or more than 12, or if one of
    them cannot be read or has no question.
    """
    if folder is None:
        return ()
    try:
        images = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXAMPLE_IMAGES)
        if not 1 <= len(images) <= EXAMPLES_MAX:
            raise ExamplesError(f"{folder}: there must be 1 to {EXAMPLES_MAX} images; got {len(images)}")
        return tuple(
            Example(
                image.with_suffix(".txt").read_text().strip(),
                image.read_bytes(),
                EXAMPLE_IMAGES[image.suffix.lower()],
            )
            for image in images
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ExamplesError(f"{folder}: {error}") from None


def router(*, share: bool, examples: Sequence[Example] = ()) -> APIRouter:
    """Return the page, its files and its examples.

    With `share` the page keeps no conversations, and other sites may show it in a frame.
    """
    headers = HEADERS | ({"content-security-policy": f"{POLICY}*"} if share else {})
    routes = APIRouter(include_in_schema=False)

    def serve(path: str, content: bytes, media_type: str) -> None:
        routes.add_api_route(path, _file(content, media_type, headers), response_model=None)

    for name in (PAGE, *ASSETS):
        kind = f"{KINDS[name[name.rindex('.') :]]}; charset=utf-8"
        content = files("gateway.playground").joinpath(name).read_bytes()
        serve("/" if name == PAGE else f"/playground/{name}", content, kind)
    paths = [EXAMPLE.format(number=number) for number in range(len(examples))]
    shown = [
        {"text": example.text, "pictures": [path.removeprefix("/")]}
        for example, path in zip(examples, paths, strict=True)
    ]
    serve(SETUP, orjson.dumps({"share": share, "examples": shown}), "application/json")
    for example, path in zip(examples, paths, strict=True):
        serve(path, example.image, example.media_type)
    return routes


def _file(content: bytes, media_type: str, headers: Mapping[str, str]) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return Response(content, headers=dict(headers), media_type=media_type)

    return file
