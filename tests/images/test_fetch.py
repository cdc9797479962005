"""Fetching against a real server on loopback, which only a setting makes reachable."""

import asyncio
import socket
import threading
import tomllib
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError
from yarl import URL

from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.errors import ImageError, ImageFetchFailed, ImageTooLarge, Overloaded
from gateway.images import fetch as fetching
from gateway.images.addresses import Address
from gateway.images.fetch import Fetcher, _target, _UnfetchableError
from gateway.images.source import WebURL, parse
from gateway.settings import load as load_settings
from gateway.telemetry.metrics import Metrics
from tests.images.conftest import ME, PARAM, Loading
from tests.images.pictures import PHOTOGRAPHS, encoded, photograph

PICTURE = encoded(photograph(PHOTOGRAPHS[0]).resize((64, 64)))
HOMEPAGE = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["urls"][
    "Homepage"
]
LOOPBACK = "127.0.0.1/32"
OTHER = Caller("other", "other", CallerClass())
WHY = "the image could not be fetched: "


async def no_memory(_: int) -> None:
    """Claim memory that nobody counts."""


class Site:
    """A server that notes every request, reachable at any address of loopback."""

    def __init__(self) -> None:
        self.port = 0
        self.location = ""
        self.asked: list[web.Request] = []

    def url(self, path: str, host: str = "127.0.0.1") -> URL:
        return URL(f"http://{host}:{self.port}{path}")

    async def picture(self, _: web.Request) -> web.Response:
        return web.Response(body=PICTURE, headers={"Set-Cookie": "who=you"})

    async def here(self, request: web.Request) -> web.Response:
        """Answer with the address that was connected to."""
        assert request.transport is not None
        return web.Response(text=request.transport.get_extra_info("sockname")[0])

    async def status(self, request: web.Request) -> web.Response:
        status = int(request.match_info["status"])
        return web.Response(status=status, text="secret", headers={"X-Secret": "secret"})

    async def hops(self, request: web.Request) -> web.Response:
        left = int(request.match_info["left"])
        return web.Response(status=302, headers={"Location": f"/hops/{left - 1}" if left else "/picture"})

    async def to(self, request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": request.query["url"]})

    async def nowhere(self, _: web.Request) -> web.Response:
        return web.Response(status=301)

    async def large(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(5000))

    async def coded(self, request: web.Request) -> web.Response:
        """Answer with a picture that is said to be coded as the query says."""
        return web.Response(
            body=PICTURE, headers={"Content-Encoding": request.raw_path.partition("?")[2].replace("%20", " ")}
        )

    async def moved(self, _: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": self.location})

    async def silent(self, _: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def slow(self, request: web.Request) -> web.StreamResponse:
        return await self._drip(request, bytes(1), 0.01)

    async def endless(self, request: web.Request) -> web.StreamResponse:
        return await self._drip(request, bytes(1000), 0)

    async def _drip(self, request: web.Request, drop: bytes, pause: float) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(drop)
            await asyncio.sleep(pause)
        return response

    def app(self) -> web.Application:
        @web.middleware
        async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.asked.append(request)
            return await handler(request)

        app = web.Application(middlewares=[noted])
        plain = ("picture", "here", "to", "nowhere", "large", "coded", "silent", "slow", "endless")
        app.add_routes([web.get(f"/{name}", getattr(self, name)) for name in plain])
        app.add_routes([web.get("/status/{status}", self.status), web.get("/hops/{left}", self.hops)])
        app.add_routes([web.get("/moved/{rest:.*}", self.moved), web.get("/{rest:.*}", self.picture)])
        return app


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    there = Site()
    runner = web.AppRunner(there.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()
    there.port = runner.addresses[0][1]
    yield there
    await runner.cleanup()


class Names:
    """A name server that gives the answers it was told, one after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(address) for address in answer]


async def fetched(url: URL, names: Names | None = None, **settings: Any) -> bytes:
    fetcher = Fetcher(load_settings(**{"fetch_allow": (LOOPBACK,), **settings}), Metrics(), names)
    try:
        return await fetcher.fetch(url, ME, no_memory)
    finally:
        await fetcher.close()


async def refusal(url: URL, names: Names | None = None, **settings: Any) -> str:
    with pytest.raises(ImageError) as caught:
        await fetched(url, names, **settings)
    assert isinstance(caught.value, ImageFetchFailed | ImageTooLarge)
    return caught.value.message


async def test_a_picture_is_fetched_with_no_header_but_the_plain_ones(site: Site) -> None:
    assert await fetched(site.url("/picture")) == PICTURE
    headers = {name.lower(): value for name, value in site.asked[0].headers.items()}
    assert headers == {
        "host": f"127.0.0.1:{site.port}",
        "accept": "image/*",
        "accept-encoding": "identity",
        "user-agent": f"llava-gateway/{version('llava-gateway')} (+{HOMEPAGE})",
    }


async def test_the_user_agent_is_a_setting(site: Site) -> None:
    await fetched(site.url("/picture"), fetch_user_agent="cats/1 (me@example.org)")
    assert site.asked[0].headers["User-Agent"] == "cats/1 (me@example.org)"
    with pytest.raises(ValidationError, match="fetch_user_agent"):
        load_settings(fetch_user_agent="x\r\nHost: y")


async def test_cookies_are_not_kept(site: Site) -> None:
    # By name: a jar keeps none of an address anyway.
    fetcher = Fetcher(load_settings(fetch_allow=(LOOPBACK,)), Metrics(), Names(["127.0.0.1"]))
    await fetcher.fetch(site.url("/picture", "pictures.test"), ME, no_memory)
    await fetcher.fetch(site.url("/picture", "pictures.test"), ME, no_memory)
    await fetcher.close()
    assert "Cookie" not in site.asked[1].headers


async def test_no_proxy_of_the_environment_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await fetched(site.url("/picture")) == PICTURE


async def test_nothing_but_public_addresses_is_asked_unless_a_setting_allows(site: Site) -> None:
    for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"):
        assert await refusal(site.url("/picture", host), fetch_allow=()) == WHY + "the address is not public"
    assert site.asked == []


async def test_a_host_is_allowed_by_its_name(site: Site) -> None:
    names = Names(["127.0.0.1"])
    assert (
        await fetched(site.url("/picture", "pictures.test"), names, fetch_allow=("pictures.test",)) == PICTURE
    )
    assert await refusal(site.url("/picture", "other.test"), names, fetch_allow=("pictures.test",)) == (
        WHY + "the address is not public"
    )


async def test_of_several_addresses_only_those_checked_are_connected_to(site: Site) -> None:
    names = Names(["127.0.0.2", "127.0.0.1", "127.0.0.3"])
    for _ in range(3):
        assert await fetched(site.url("/here", "mixed.test"), names) == b"127.0.0.1"


async def test_the_address_that_was_checked_is_the_one_connected_to(site: Site) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    assert await fetched(site.url("/here", "rebinding.test"), names) == b"127.0.0.1"
    assert names.asked == ["rebinding.test"]
    assert await refusal(site.url("/here", "rebinding.test"), names) == WHY + "the address is not public"


async def test_a_kept_connection_serves_no_other_name(site: Site) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    fetcher = Fetcher(load_settings(fetch_allow=(LOOPBACK,)), Metrics(), names)
    assert await fetcher.fetch(site.url("/here", "one.test"), ME, no_memory) == b"127.0.0.1"
    with pytest.raises(ImageFetchFailed, match="the address is not public"):
        await fetcher.fetch(site.url("/here", "two.test"), ME, no_memory)
    await fetcher.close()


WRITTEN = (
    "/Bob%27s.jpg?sig=c52%2FtqjdBH%3D&X-Amz-Credential=AK%2F20261130%2Fs3",
    "/a%28b%29%7E.jpg?x=%40%2C%7e&y=a+b%20c",
    "/%e2%82%ac/../100%.jpg;v=1,2",
    "//a//./b'(c)!*|{}[]\"<>^`.png?a=b?c=d&e;f=/:@",
    "?only=a%20query",
)


@pytest.mark.parametrize("target", WRITTEN)
async def test_a_url_is_fetched_as_it_was_written(site: Site, target: str) -> None:
    """A signature covers every character."""
    source = parse(f"http://127.0.0.1:{site.port}{target}#part", param="url", max_bytes=1)
    assert isinstance(source, WebURL)
    assert await fetched(source.url) == PICTURE
    assert site.asked[0].raw_path == ("/" if target.startswith("?") else "") + target
    assert site.asked[0].headers["Host"] == f"127.0.0.1:{site.port}"


async def test_only_what_no_request_line_can_hold_is_encoded(site: Site) -> None:
    source = parse(
        f"http://127.0.0.1:{site.port}/gr\u00f6\u00dfe 1.png?q=\u20ac\x7f \n", param="url", max_bytes=1
    )
    assert isinstance(source, WebURL)
    await fetched(source.url)
    assert site.asked[0].raw_path == "/gr%C3%B6%C3%9Fe%201.png?q=%E2%82%AC%7F"


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/b%28c%29?s=%2f+%7E", "/b%28c%29?s=%2f+%7E"),
        ("b%27.png?x=%2C", "/moved/a/b%27.png?x=%2C"),
        ("../b//c%7e/./d", "/moved/b//c%7e/d"),
        ("?sig=%3d", "/moved/a/1?sig=%3d"),
        ("//127.0.0.1:PORT/x%2Fy", "/x%2Fy"),
        ("http://127.0.0.1:PORT/x/../y%20z#part", "/x/../y%20z"),
        ("/caf\u00e9 1.png", "/caf%C3%A9%201.png"),
    ],
)
async def test_a_redirect_is_followed_as_it_was_written(site: Site, location: str, asked: str) -> None:
    site.location = location.replace("PORT", str(site.port))
    start = URL(f"http://127.0.0.1:{site.port}/moved/a/1?q", encoded=True)
    if location.startswith(("?", "b", "..")):  # it would lead back
        with pytest.raises(ImageFetchFailed):
            await fetched(start, fetch_max_redirects=1)
    else:
        assert await fetched(start) == PICTURE
    assert site.asked[1].raw_path == asked


async def test_five_redirects_are_followed_by_default(site: Site) -> None:
    assert await fetched(site.url("/hops/4")) == PICTURE
    assert await refusal(site.url("/hops/5")) == WHY + "there are too many redirects"


async def test_redirects_are_followed_up_to_the_limit(site: Site) -> None:
    assert await fetched(site.url("/hops/2"), fetch_max_redirects=3) == PICTURE
    assert await refusal(site.url("/hops/3"), fetch_max_redirects=3) == WHY + "there are too many redirects"
    assert await refusal(site.url("/hops/0"), fetch_max_redirects=0) == WHY + "there are too many redirects"


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "[::ffff:127.0.0.2]", "hidden.test"])
async def test_a_redirect_to_an_address_that_is_not_public_is_not_followed(site: Site, host: str) -> None:
    names = Names(["127.0.0.2"])
    start = site.url("/to").with_query(url=str(site.url("/picture", host)))
    assert await refusal(start, names) == WHY + "the address is not public"
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/", "http://2130706433/", "http://me:you@127.0.0.1/"],
)
async def test_a_redirect_is_checked_like_the_url_of_a_client(site: Site, target: str) -> None:
    start = site.url("/to").with_query(url=target)
    assert await refusal(start) == WHY + "a redirect leads to a URL that is not allowed"


async def test_a_redirect_that_leads_nowhere_is_refused(site: Site) -> None:
    assert await refusal(site.url("/nowhere")) == WHY + "a redirect leads to a URL that is not allowed"


@pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 404, 500, 503])
async def test_an_error_status_is_all_that_is_told_of_what_answered(site: Site, status: int) -> None:
    assert await refusal(site.url(f"/status/{status}")) == f"{WHY}the server answered {status}"


@pytest.mark.parametrize(
    "coding", ["gzip", "X-GZIP", "deflate", "br", "zstd", "compress", "identity, gzip", "utf-8,br"]
)
async def test_a_compressed_answer_is_refused(site: Site, coding: str) -> None:
    url = URL(f"{site.url('/coded')}?{coding.replace(' ', '%20')}", encoded=True)
    assert await refusal(url) == WHY + "the answer is compressed"


@pytest.mark.parametrize("slip", ["", "UTF-8", "base64", "binary", "none", "identity", "aws-chunked", "jpeg"])
async def test_what_is_no_coding_does_not_count_as_one(site: Site, slip: str) -> None:
    assert await fetched(URL(f"{site.url('/coded')}?{slip}", encoded=True)) == PICTURE


async def test_size_is_bounded_by_what_is_declared_and_by_what_arrives(site: Site) -> None:
    assert (
        await refusal(site.url("/large"), image_max_bytes=4999)
        == "the image has 5000 bytes; the limit is 4999"
    )
    assert len(await fetched(site.url("/large"), image_max_bytes=5000)) == 5000
    assert (await refusal(site.url("/endless"), image_max_bytes=10_000)).endswith("bytes; the limit is 10000")


@pytest.mark.parametrize("path", ["/silent", "/slow"])
async def test_time_is_bounded_over_all_steps_together(site: Site, path: str) -> None:
    began = asyncio.get_running_loop().time()
    assert await refusal(site.url(path), fetch_timeout=0.3) == WHY + "it timed out"
    assert asyncio.get_running_loop().time() - began < 20  # Either site takes a minute.


async def test_a_name_server_that_does_not_answer_is_bounded_too(site: Site) -> None:
    class Silent(Names):
        async def __call__(self, host: str) -> list[Address]:
            await asyncio.sleep(60)
            return await super().__call__(host)

    names = Silent(["127.0.0.1"])
    assert await refusal(site.url("/", "slow.test"), names, fetch_timeout=0.2) == WHY + "it timed out"


async def test_a_name_that_does_not_exist_is_said_so() -> None:
    assert await refusal(URL("http://nothing.invalid/")) == WHY + "the name could not be resolved"


async def test_a_port_where_nobody_listens_is_a_failed_connection() -> None:
    assert await refusal(URL("http://127.0.0.1:1/")) == WHY + "the connection failed"


async def test_what_does_not_speak_http_is_a_failed_connection() -> None:
    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-secret\r\n")
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await refusal(URL(f"http://127.0.0.1:{port}/")) == WHY + "the connection failed"
    server.close()
    await server.wait_closed()


async def test_the_loader_says_which_part_could_not_be_fetched(site: Site, loading: Any) -> None:
    one: Loading = loading(fetch_allow=(LOOPBACK,))
    with pytest.raises(ImageFetchFailed) as caught:
        await one.load(str(site.url("/status/500")))
    assert caught.value.message == f"{PARAM}: {WHY}the server answered 500"
    assert caught.value.param == PARAM


async def test_a_fetched_picture_is_loaded_and_counted(site: Site, loading: Any) -> None:
    one: Loading = loading(fetch_allow=(LOOPBACK,))
    url = str(site.url("/picture"))
    first, again = await one.load(url), await one.load(url)
    assert first is again
    assert [request.path for request in site.asked] == ["/picture"] * 2  # What it answers may change.
    assert one.count("gateway_images_total", source="http", format="png") == 2
    assert one.count("gateway_image_seconds_count", step="fetch") == 2
    assert one.count("gateway_image_seconds_count", step="fit") == 1


def test_a_redirect_from_https_to_http_is_refused() -> None:
    secure, plain = URL("https://pictures.test/a"), URL("http://pictures.test/b")
    with pytest.raises(_UnfetchableError, match="a redirect leads to a URL that is not allowed"):
        _target(secure, str(plain))
    assert _target(secure, "/b") == URL("https://pictures.test/b")
    assert _target(plain, str(secure)) == secure


# Others


async def test_fetching_can_be_off_or_for_some_hosts_alone(site: Site) -> None:
    off = Fetcher(load_settings(fetch_allow=(LOOPBACK,), fetch_images=False), Metrics())
    with pytest.raises(ImageFetchFailed, match=r"^images are not fetched here; send them as data: URLs$"):
        await off.fetch(site.url("/picture"), ME, no_memory)
    names = Names(["127.0.0.1"])
    some = Fetcher(load_settings(fetch_allow=(LOOPBACK,), fetch_hosts=("good.test",)), Metrics(), names)
    assert await some.fetch(site.url("/picture", "GOOD.test"), ME, no_memory) == PICTURE
    for url in (
        site.url("/picture", "other.test"),
        site.url(f"/to?url={site.url('/picture', 'other.test')}", "good.test"),
    ):
        with pytest.raises(ImageFetchFailed, match="images are not fetched from this host"):
            await some.fetch(url, ME, no_memory)
    assert all(host.startswith("good.test") for host in (request.host for request in site.asked))
    await off.close()
    await some.close()


async def test_waiting_for_memory_is_not_the_servers_time(site: Site) -> None:
    fetcher = Fetcher(load_settings(fetch_allow=(LOOPBACK,), fetch_timeout=1), Metrics())

    async def late(size: int) -> None:
        assert size == len(PICTURE)
        await asyncio.sleep(1.2)

    assert await fetcher.fetch(site.url("/picture"), ME, late) == PICTURE
    await fetcher.close()


async def test_a_fetch_that_waits_for_others_too_long_is_our_fault(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_FETCHES", 2)
    fetcher = Fetcher(load_settings(fetch_allow=(LOOPBACK,), fetch_timeout=5, max_wait=0.2), Metrics())
    silent = [asyncio.create_task(fetcher.fetch(site.url("/silent"), ME, no_memory)) for _ in range(2)]
    await asyncio.sleep(0.1)
    with pytest.raises(Overloaded):
        await fetcher.fetch(site.url("/picture"), ME, no_memory)
    for task in silent:
        task.cancel()
    await asyncio.gather(*silent, return_exceptions=True)
    await fetcher.close()


async def test_silent_sites_of_one_caller_do_not_keep_another_waiting(site: Site) -> None:
    fetcher = Fetcher(load_settings(fetch_allow=(LOOPBACK,), fetch_timeout=60), Metrics())
    silent = [asyncio.create_task(fetcher.fetch(site.url("/silent"), ME, no_memory)) for _ in range(300)]
    await asyncio.sleep(0.3)
    async with asyncio.timeout(20):
        assert await fetcher.fetch(site.url("/picture"), OTHER, no_memory) == PICTURE
    for task in silent:
        task.cancel()
    await asyncio.gather(*silent, return_exceptions=True)
    await fetcher.close()


async def test_names_that_are_never_resolved_keep_nobody_else_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *rest: Any, **named: Any) -> Any:
        if host.startswith("slow"):
            stuck.wait(10)
        return real("127.0.0.1", *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(fetching, "_LOOKUP_TIMEOUT", 1.0)
    fetcher = Fetcher(load_settings(fetch_allow=(LOOPBACK,)), Metrics())
    tasks = [
        asyncio.create_task(fetcher.fetch(site.url("/picture", f"slow{number}.test"), ME, no_memory))
        for number in range(40)
    ]
    await asyncio.sleep(0.1)
    assert await fetcher.fetch(site.url("/picture", "quick.test"), OTHER, no_memory) == PICTURE
    await asyncio.sleep(1.2)
    stuck.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} <= {ImageFetchFailed, bytes}
    assert sum(isinstance(end, ImageFetchFailed) for end in ends) >= 24
    await fetcher.close()
