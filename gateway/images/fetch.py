"""Fetches images over HTTP(S) from checked addresses, within limits of time and size.

Any port is allowed; a redirect from https to http is refused. Connections are kept alive and reused only
for the same scheme, host and port, so a connection always leads to an address checked for its host.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from importlib.metadata import version
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.access.callers import Caller
from gateway.access.fair_semaphore import FairSemaphore
from gateway.access.memory_budgets import ReserveMemory
from gateway.errors import GatewayError, ImageFetchFailed, ImageTooLarge, Overloaded
from gateway.images import urls
from gateway.images.addresses import Address, AddressPolicy
from gateway.images.source import address_of, too_large, web_url
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

Lookup = Callable[[str], Awaitable[Sequence[Address]]]

_REDIRECTS = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)
# A small compressed body could grow without bound; images are compressed already.
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity"}
# Other values of `Content-Encoding` (UTF-8, base64, binary, none, aws-chunked) are mistakes of the server: no
# coding of that name is registered, https://www.iana.org/assignments/http-parameters.
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz"})
# Some servers refuse programs that do not name a contact.
_USER_AGENT = f"llava-gateway/{version('llava-gateway')} (+https://pypi.org/project/llava-gateway/)"
_LOOKUP_THREADS = 32
_LOOKUP_TIMEOUT = 5.0  # seconds
_FETCHES = 256  # concurrent; a quarter of fetches and of look-ups is for callers that have none running
_CHUNK_BYTES = 2**16


class _UnfetchableError(Exception):
    """An image cannot be fetched. The message reveals nothing about the server but its status.

    `kind` names the reason in metrics.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Fetcher:
    """Fetches images. `lookup` returns the addresses of a host name, and raises OSError if there are none."""

    def __init__(self, settings: Settings, metrics: Metrics, lookup: Lookup | None = None) -> None:
        self._failures = metrics.fetch_failures
        self._policy = AddressPolicy.parse(settings.fetch_allow)
        self._on = settings.fetch_images
        self._hosts = frozenset(host.lower() for host in settings.fetch_hosts)
        self._fetches = _semaphore(_FETCHES, settings)
        self._lookups = _semaphore(_LOOKUP_THREADS, settings)
        self._timeout = settings.fetch_timeout
        self._max_redirects = settings.fetch_max_redirects
        self._user_agent = settings.fetch_user_agent or _USER_AGENT
        self._max_bytes = settings.image_max_bytes
        # Look-ups have their own threads: a slow name server must not delay decoding.
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="lookup")
        self._lookup = lookup or self._look_up
        self._opened: aiohttp.ClientSession | None = None

    async def fetch(self, url: URL, caller: Caller, reserve: ReserveMemory) -> bytes:
        """Return the body at `url`, after reserving memory for it.

        Raises ImageFetchFailed, ImageTooLarge beyond the limit, and Overloaded (503) if it waits too long for
        other fetches or for memory; that time does not count against `fetch_timeout`.
        """
        if not self._on:
            self._failures.labels("disabled").inc()
            raise ImageFetchFailed("images are not fetched here; send them as data: URLs")
        try:
            async with self._fetches.hold(caller):
                return await self._timed(url, caller, reserve)
        except (ImageTooLarge, Overloaded) as error:
            self._failures.labels("too_large" if isinstance(error, ImageTooLarge) else "overloaded").inc()
            raise

    async def _timed(self, url: URL, caller: Caller, reserve: ReserveMemory) -> bytes:
        try:
            async with asyncio.timeout(self._timeout) as clock:
                return await self._follow(url, _PendingFetch(clock, caller, reserve))
        except GatewayError:
            raise
        except _UnfetchableError as error:
            kind, reason = error.kind, str(error)
        except TimeoutError:
            kind, reason = "timeout", "it timed out"
        except aiohttp.ClientConnectorDNSError:
            kind, reason = "dns", "the name could not be resolved"
        except (aiohttp.ClientError, OSError, ValueError):
            kind, reason = "connection", "the connection failed"
        self._failures.labels(kind).inc()
        raise ImageFetchFailed(f"the image could not be fetched: {reason}") from None

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, url: URL, waiting: "_PendingFetch") -> bytes:
        for _ in range(self._max_redirects + 1):
            await self._check_host(url, waiting)
            async with self._session().get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await self._body(response, waiting)
                url = _target(url, response.headers.get("Location", ""))
        raise _UnfetchableError("redirect", "there are too many redirects")

    async def _check_host(self, url: URL, waiting: "_PendingFetch") -> None:
        """Check the host of `url`; the addresses of a name are checked when it is resolved."""
        host = url.raw_host or ""
        if self._hosts and host.lower() not in self._hosts:
            raise _UnfetchableError("host", "images are not fetched from this host")
        address = address_of(host)
        # aiohttp does not use the resolver for a host that is an address already.
        if address is not None and not self._policy.admits(host, address):
            raise _UnfetchableError("address", "the address is not public")
        _WAITING.set(waiting)

    async def _body(self, response: aiohttp.ClientResponse, waiting: "_PendingFetch") -> bytes:
        if response.status != HTTPStatus.OK:
            raise _UnfetchableError("status", f"the server answered {response.status}")
        if not _COMPRESSED.isdisjoint(_codings(response)):
            raise _UnfetchableError("encoding", "the answer is compressed")
        if (response.content_length or 0) > self._max_bytes:
            raise ImageTooLarge(too_large(response.content_length or 0, self._max_bytes))
        await waiting.reserve(response.content_length or self._max_bytes)
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise ImageTooLarge(too_large(len(body), self._max_bytes))
        return bytes(body)

    def _session(self) -> aiohttp.ClientSession:
        # Created on first use, because it belongs to the running event loop.
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_CheckedResolver(self._lookup, self._policy), use_dns_cache=False, limit=0
                ),
                headers=_HEADERS | {"User-Agent": self._user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # `fetch` limits the total time.
                auto_decompress=False,
                trust_env=False,
            )
        return self._opened

    async def _look_up(self, host: str) -> list[Address]:
        def addresses() -> list[Address]:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            return [ip_address(sockaddr[0]) for *_, sockaddr in found]

        waiting = _WAITING.get()
        with waiting.for_others():
            thread = await self._lookups.take(waiting.caller)
        looking = asyncio.get_running_loop().run_in_executor(self._threads, addresses)
        # A thread cannot be interrupted: it holds its permit until the look-up ends, even if cancelled.
        looking.add_done_callback(lambda _: thread.release())
        async with asyncio.timeout(_LOOKUP_TIMEOUT):
            return await asyncio.shield(looking)


class _PendingFetch:
    """The timeout of one fetch; it stops while the fetch waits for other fetches or for memory."""

    def __init__(self, clock: asyncio.Timeout, caller: Caller, reserve: ReserveMemory) -> None:
        self.caller = caller
        self._clock = clock
        self._reserve = reserve

    @contextmanager
    def for_others(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        left = (self._clock.when() or loop.time()) - loop.time()
        self._clock.reschedule(None)
        try:
            yield
        finally:
            if not self._clock.expired():
                self._clock.reschedule(loop.time() + left)

    async def reserve(self, size: int) -> None:
        with self.for_others():
            await self._reserve(size)


_WAITING: ContextVar[_PendingFetch] = ContextVar("waiting")  # the fetch that needs the look-up


def _codings(response: aiohttp.ClientResponse) -> set[str]:
    listed = ",".join(response.headers.getall("Content-Encoding", ()))
    return {coding.strip().lower() for coding in listed.split(",")}


def _semaphore(number: int, settings: Settings) -> FairSemaphore:
    most = 8 * settings.max_running  # images of all running requests, and one more for each
    return FairSemaphore(number, reserve=number // 4, max_waiting=most, max_wait=settings.max_wait)


class _CheckedResolver(AbstractResolver):
    """Returns only checked addresses, so that aiohttp connects to one of them."""

    def __init__(self, lookup: Lookup, policy: AddressPolicy) -> None:
        self._lookup = lookup
        self._policy = policy

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - part of the interface; both families are returned
    ) -> list[ResolveResult]:
        admitted = [address for address in await self._lookup(host) if self._policy.admits(host, address)]
        if not admitted:
            raise _UnfetchableError("address", "the address is not public")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,  # noqa: PLR2004 - IPv4
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in admitted
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _target(url: URL, location: str) -> URL:
    """Return the target of a redirect, checked like the URL of a client."""
    try:
        target = web_url(urls.joined(str(url), location))
    except ValueError:
        raise _UnfetchableError("redirect", "a redirect leads to a URL that is not allowed") from None
    if not location or (url.scheme, target.scheme) == ("https", "http"):
        raise _UnfetchableError("redirect", "a redirect leads to a URL that is not allowed")
    return target
