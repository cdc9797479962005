"""Debian's Chromium, the gateway on the real engine, a static site, a folder for screenshots."""

import functools
import os
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests import environments
from tests.chromium import chromium
from tests.servers import Gateway, served_gateway

KEY = "sk-frontends"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a static server with the page and OpenAI's package for JavaScript."""
    package = environments.node(environments.FRONTENDS / "openai-js", "openai@6.49.0") / "node_modules/openai"
    folder = tmp_path_factory.mktemp("site")
    (folder / "openai").symlink_to(package)
    (folder / "page.html").symlink_to(Path(__file__).with_name("programs") / "page.html")
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def gateway(site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Yield a gateway with the demo model, which pages of `site` may call."""
    folder = tmp_path_factory.mktemp("gateway")
    with served_gateway(folder, profile="demo", api_keys=KEY, cors_origins=site) as running:
        yield running


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Yield a page of a browser profile that nobody has used before."""
    context = await browser.new_context()
    yield await context.new_page()
    await context.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where screenshots go: the folder that FRONTENDS_SHOTS names, or one that is thrown away."""
    named = os.environ.get("FRONTENDS_SHOTS")
    return Path(named) if named else tmp_path_factory.mktemp("shots")
