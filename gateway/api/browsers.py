"""What a page of another site may not do through its visitor's browser, where no API key is asked for.

Such a page reaches an address of the visitor's own network in two ways. It sends a form, which needs no
permission of ours (CSRF): `Origin` and `Sec-Fetch-Site` tell where it is from. Or its name is made to
resolve to our address (DNS rebinding): the browser then takes us for the page's own server, but says so in
`Host`. Programs that are no browsers send neither of the first two, and are not affected.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers

from gateway.access.callers import is_loopback
from gateway.errors import HostNotAllowed, OriginNotAllowed
from gateway.schema.paths import short
from gateway.settings import Settings

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing (RFC 9110, 9.2.1)
OWN = frozenset({"same-origin", "none"})  # `Sec-Fetch-Site` of our own pages, and of what a person typed


class BrowserGuard:
    """Checks each request's `Host` and where it is from."""

    def __init__(self, settings: Settings, *, keyed: bool) -> None:
        local = is_loopback(settings.host) and not keyed
        self._checks_hosts = (local or bool(settings.allowed_hosts)) and "*" not in settings.allowed_hosts
        self._hosts = frozenset(settings.allowed_hosts)
        self._checks_origins = not keyed and "*" not in settings.cors_origins
        self._origins = frozenset(settings.cors_origins)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raise HostNotAllowed or OriginNotAllowed (403)."""
        # Kubernetes asks for a pod's health by its address, and what is answered is no secret.
        if self._checks_hosts and not path.startswith("/health"):
            self._check_host(headers.get("host", ""))
        if self._checks_origins and method not in SAFE:
            self._check_origin(method, headers)

    def _check_host(self, host: str) -> None:
        name = _name(host)
        # HTTP/1.0 needs no Host; every browser sends one.
        if host and name not in self._hosts and not _is_own(name):
            raise HostNotAllowed(
                f'the Host header must be a loopback name or in GATEWAY_ALLOWED_HOSTS; got "{short(host)}"'
            )

    def _check_origin(self, method: str, headers: Headers) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins:
            return
        if site is not None:
            is_own = site in OWN
        else:  # Browsers send it to https and loopback addresses alone, and some old ones never.
            is_own = origin is None or origin.partition("://")[2] == headers.get("host")
        if not is_own:
            got = (
                f'Origin "{short(origin)}"' if origin is not None else f'Sec-Fetch-Site "{short(site or "")}"'
            )
            raise OriginNotAllowed(
                f"without API keys, a page of another origin may send {method} only if its origin is in "
                f"GATEWAY_CORS_ORIGINS; got {got}"
            )


def _name(host: str) -> str:
    """Return the name or address in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


@lru_cache(maxsize=64)
def _is_own(name: str) -> bool:
    """Return whether no name server can say where `name` leads but to this machine (RFC 6761, 6.3)."""
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
