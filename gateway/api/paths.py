"""Which paths are the same, which methods a path takes, and which of OpenAI's paths are not served."""

import re
from typing import Final

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

# OpenAI's and vLLM's endpoints that are not served here. They are answered with 400 and not with
# 404, because LiteLLM's proxy takes a whole deployment out of service for a 404.
UNSUPPORTED = (
    "/v1/agents",
    "/v1/assistants",
    "/v1/audio",
    "/v1/chatkit",
    "/v1/containers",
    "/v1/content_provenance_checks",
    "/v1/conversations",
    "/v1/decisions",
    "/v1/edits",
    "/v1/embeddings",
    "/v1/engines",
    "/v1/evals",
    "/v1/fine-tunes",
    "/v1/fine_tuning",
    "/v1/images",
    "/v1/live",
    "/v1/messages",
    "/v1/moderations",
    "/v1/organization",
    "/v1/projects",
    "/v1/realtime",
    "/v1/rerank",
    "/v1/safety",
    "/v1/score",
    "/v1/skills",
    "/v1/threads",
    "/v1/uploads",
    "/v1/vaults",
    "/v1/vector_stores",
    "/v1/videos",
    "/v1/webhook_endpoints",
    "/v1/webhook_event_types",
    "/classify",
    "/pooling",
    "/rerank",
    "/score",
)
CHATS = "/v1/chat/completions"  # GET, and all below it, is for stored chats; none are stored here
STORED_CHAT = re.compile(rf"{CHATS}/[^/]+(/messages)?")
MODELS = "/v1/models/"  # OpenAI deletes fine-tuned ones
API: Final = "/v1"
# What stands below it, served or not. Clients whose base URL lacks it ask for these at the root, where
# llama.cpp's server and LiteLLM's proxy answer them too.
BELOW_API: Final = frozenset(path.split("/")[2] for path in UNSUPPORTED if path.startswith(f"{API}/")) | {
    "batches",
    "chat",
    "completions",
    "files",
    "models",
    "responses",
}


def canonical(scope: Scope) -> Scope:
    """Return `scope` as the routes know it: HEAD as GET, no slash at the end, `/v1` at the front.

    A changed scope is a copy: the server keeps its own, and so sends no body in answer to HEAD.
    """
    path: str = scope["path"]
    if scope["method"] == "HEAD":
        scope = {**scope, "method": "GET"}
    if path.endswith("/") and path != "/":
        path = path[:-1]
    first = path[1:].partition("/")[0]
    if first in BELOW_API:
        path = API + path
    return scope if path == scope["path"] else {**scope, "path": path}


def allowed(routes: list[BaseRoute], scope: Scope) -> list[str]:
    """Return the methods that the routes of the path in `scope` take."""
    methods: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


def is_unsupported(path: str) -> bool:
    """Return whether `path`, which no route has, is an endpoint of OpenAI's or vLLM's."""
    if path.startswith(f"{CHATS}/"):
        return STORED_CHAT.fullmatch(path) is not None
    return any(path == prefix or path.startswith(prefix + "/") for prefix in UNSUPPORTED)


def where_the_api_is(path: str) -> str:
    """Return what to tell a client that asked for `path`, which is nothing of ours."""
    if path.startswith(f"{API}{API}/"):
        return f"it has {API} twice; the client adds a part that its base URL already has"
    if path.startswith(f"{CHATS}/"):
        return f"the client adds a path to its base URL, which should end with {API}"
    return f"the API is at {API}, as in {CHATS} and {API}/models"


def is_unsupported_method(method: str, path: str) -> bool:
    """Return whether OpenAI has `method` for `path`, which has routes for other methods only."""
    return (method, path) == ("GET", CHATS) or (method == "DELETE" and path.startswith(MODELS))
