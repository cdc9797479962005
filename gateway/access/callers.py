"""Identifies callers by the name of their API key or, without keys, by their IP address."""

import datetime as dt
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from gateway.access import keys
from gateway.access.keys import CallerClass, Key, Keys, KeysError
from gateway.access.keys_file import KeysFile
from gateway.errors import InvalidAPIKey
from gateway.settings import Settings

NO_KEY = "no key"  # no key's name has a space
IPV6_NETWORK = 64  # bits: the network that a provider assigns to one subscriber


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `name` is for limits and logs; `scope` separates caches and stored data."""

    name: str
    scope: str = field(repr=False)
    caller_class: CallerClass
    label: str = NO_KEY  # in metrics: the operator's name for the key, never a client's text


class Callers:
    """Authenticates callers. Raises keys.KeysError if the keys file cannot be read at the start."""

    def __init__(self, settings: Settings) -> None:
        self._default = CallerClass(
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            images_per_minute=settings.images_per_minute,
            requests_at_once=settings.requests_at_once,
        )
        self._given = self._from_setting(settings.api_keys)
        path = settings.keys_file
        self._file = KeysFile(path, lambda: self._load(path)) if path else None
        self._header = settings.client_address_header
        self._proxies = [ip_network(network) for network in settings.trusted_proxies]

    @property
    def keyed(self) -> bool:
        """Report whether API keys are required."""
        return self._file is not None or bool(self._given.by_hash)

    @property
    def stale(self) -> bool:
        """Report whether the keys file is unusable, so that the last good keys stay valid."""
        return self._file is not None and self._file.stale

    async def watch(self) -> None:
        """Reload the keys file when it changes, until cancelled."""
        if self._file is not None:
            await self._file.watch()

    def known(self, scope: str) -> bool:
        """Report whether `scope` still belongs to a caller; that of a revoked key does not.

        If no keys are required, every scope is known.
        """
        return not self.keyed or any(scope in known.scopes for known in self._all())

    def identify(self, headers: Mapping[str, str], address: str) -> Caller:
        """Return the request's caller; `address` is the connection's peer. Raises InvalidAPIKey (401)."""
        authorization = headers.get("authorization", "")
        if not self.keyed:
            name = f"address:{self._network(headers, address)}"
            return Caller(name, keys.scope_of(authorization, b"caller"), self._default)
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise InvalidAPIKey("no API key was sent; send `Authorization: Bearer KEY`")
        key = self._key(keys.hashed(secret.strip()))
        if key is None:
            raise InvalidAPIKey("the API key is not valid")
        if key.until is not None and key.until <= dt.datetime.now(dt.UTC):
            raise InvalidAPIKey(
                f"the API key was replaced, and was valid until {key.until:%Y-%m-%d %H:%M} UTC"
            )
        return Caller(key.name, key.scope, key.caller_class, key.name)

    def _key(self, digest: str) -> Key | None:
        # The lookup uses the hash, so its timing reveals nothing about any key.
        for known in self._all():
            key = known.by_hash.get(digest)
            if key is not None and hmac.compare_digest(key.hash, digest):
                return key
        return None

    def _all(self) -> tuple[Keys, ...]:
        return (self._given, self._file.current()) if self._file else (self._given,)

    def _load(self, path: Path) -> Keys:
        """Return the keys of the file. Raises KeysError if GATEWAY_API_KEYS has one of them, too."""
        found = keys.load(path, self._default)
        names = {key.name for key in self._given.by_hash.values()}
        for key in found.by_hash.values():
            if key.name in names or key.hash in self._given.by_hash:
                raise KeysError(f"{path}: [keys.{key.name}]: GATEWAY_API_KEYS has this name or key, too")
        return found

    def _network(self, headers: Mapping[str, str], address: str) -> str:
        """Return the client's IPv4 address, or the network of its IPv6 address."""
        forwarded = self._forwarded(headers) if self._header else ""
        if forwarded and self._is_proxy(address):
            # The proxy appended the last address; the client may have invented those before it.
            address = _bare(forwarded.rpartition(",")[2])
        try:
            found = ip_address(address)
        except ValueError:
            return "unknown"
        if isinstance(found, IPv6Address):
            mapped = found.ipv4_mapped
            return str(mapped or IPv6Network((found, IPV6_NETWORK), strict=False).network_address)
        return str(found)

    def _forwarded(self, headers: Mapping[str, str]) -> str:
        # A proxy may add its header line after one that the client sent: join all lines.
        return ",".join(value for name, value in headers.items() if name.lower() == self._header)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._proxies)

    def _from_setting(self, written: tuple[str, ...]) -> Keys:
        found: dict[str, Key] = {}
        names: set[str] = set()
        for number, entry in enumerate(written, 1):
            name, colon, secret = entry.partition(":")
            if not colon or keys.NAME.fullmatch(name) is None:
                name, secret = f"key-{number}", entry
            digest = keys.hashed(secret)
            if name in names:
                raise KeysError(
                    f"GATEWAY_API_KEYS: two keys have the name {name!r}; key-N is the Nth without one"
                )
            if digest in found:
                raise KeysError(f"GATEWAY_API_KEYS: {found[digest].name!r} and {name!r} are the same key")
            names.add(name)
            found[digest] = Key(name, digest, self._default, owner=digest)
        return Keys(found)


def _bare(address: str) -> str:
    """Return `address` without the port and brackets that some proxies add."""
    address = address.strip().strip('"')
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def access_problem(settings: Settings) -> str | None:
    """Return why the gateway must not start (for example: reachable without API keys), or None."""
    try:
        keyed = Callers(settings).keyed
    except KeysError as error:
        return str(error)
    if settings.metrics_access == "key" and not keyed:
        return "GATEWAY_METRICS_ACCESS=key needs an API key; set GATEWAY_KEYS_FILE or GATEWAY_API_KEYS"
    if settings.playground == "share":
        return "GATEWAY_PLAYGROUND=share is for a gateway without API keys; got some" if keyed else None
    if keyed or settings.open_access or is_loopback(settings.host):
        return None
    return (
        f"GATEWAY_HOST={settings.host}: other machines can reach this address, and no API key is required. "
        "Set GATEWAY_KEYS_FILE (see `llava-gateway keys --help`) or GATEWAY_API_KEYS. To serve without keys, "
        "set GATEWAY_OPEN_ACCESS=true."
    )


def is_loopback(host: str) -> bool:
    """Report whether `host` is reachable only from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
