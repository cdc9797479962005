"""Who a request is from: an API key's name or, where no keys are set, the address that it comes from."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

import structlog

from gateway.access import keys
from gateway.access.keys import CallerClass, Key, Keys
from gateway.errors import InvalidAPIKey
from gateway.settings import Settings

NO_KEY = "no key"  # no key's name has a space
LOOK_EVERY = 1.0  # seconds between two looks whether the keys file has changed
IPV6_NETWORK = 64  # bits: what one subscriber has

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends. `name` is for limits and logs; `scope` separates caches and what is stored."""

    name: str
    scope: str = field(repr=False)
    klass: CallerClass
    label: str = NO_KEY  # in metrics: the operator's name of the key, never what a client says


class Callers:
    """Tells callers apart. Raises keys.KeysError where the keys file cannot be read at the start."""

    def __init__(self, settings: Settings) -> None:
        self._default = CallerClass(
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            images_per_minute=settings.images_per_minute,
            requests_at_once=settings.requests_at_once,
        )
        self._given = Keys({key.hash: key for key in self._from_setting(settings.api_keys)})
        self._file = _KeysFile(settings.keys_file, self._default) if settings.keys_file else None
        self._header = settings.client_address_header
        self._proxies = [ip_network(network) for network in settings.trusted_proxies]

    @property
    def keyed(self) -> bool:
        """Whether API keys are required."""
        return self._file is not None or bool(self._given.by_hash)

    def identify(self, headers: Mapping[str, str], address: str) -> Caller:
        """Return whose request this is; `address` is the connection's. Raises InvalidAPIKey (401)."""
        authorization = headers.get("authorization", "")
        if not self.keyed:
            return Caller(f"address:{self._network(headers, address)}", _scope(authorization), self._default)
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise InvalidAPIKey("no API key was sent; send `Authorization: Bearer KEY`")
        key = self._key(keys.hashed(secret.strip()))
        if key is None:
            raise InvalidAPIKey("the API key is not valid")
        return Caller(key.name, _scope(f"key {key.name}"), key.klass, key.name)

    def _key(self, digest: str) -> Key | None:
        # What is looked up is a hash: how long that takes says nothing about any key.
        for known in (self._given, self._file.current() if self._file else Keys()):
            key = known.by_hash.get(digest)
            if key is not None and hmac.compare_digest(key.hash, digest):
                return key
        return None

    def _network(self, headers: Mapping[str, str], address: str) -> str:
        """Return the client's address, and of an IPv6 address its network."""
        told = self._told(headers) if self._header else ""
        if told and self._is_proxy(address):
            # The last is what our proxy saw; those before it are from its client and prove nothing.
            address = _bare(told.rpartition(",")[2])
        try:
            found = ip_address(address)
        except ValueError:
            return "unknown"
        if isinstance(found, IPv6Address):
            mapped = found.ipv4_mapped
            return str(mapped or IPv6Network((found, IPV6_NETWORK), strict=False).network_address)
        return str(found)

    def _told(self, headers: Mapping[str, str]) -> str:
        # A proxy may add a line of its own below its client's: only all of them together are the list.
        return ",".join(value for name, value in headers.items() if name.lower() == self._header)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._proxies)

    def _from_setting(self, written: tuple[str, ...]) -> list[Key]:
        found = []
        for number, entry in enumerate(written, 1):
            name, colon, secret = entry.partition(":")
            if not colon or keys.NAME.fullmatch(name) is None:
                name, secret = f"key-{number}", entry
            found.append(Key(name, keys.hashed(secret), self._default))
        return found


def _bare(told: str) -> str:
    """Return an address without the port and brackets that a proxy may write."""
    told = told.strip().strip('"')
    if told.startswith("["):
        return told[1:].partition("]")[0]
    return told.partition(":")[0] if told.count(":") == 1 else told


def _scope(text: str) -> str:
    """Return a hash: it is stored, and what clients send as a key is a secret even if none is asked for."""
    return hashlib.blake2b(text.encode("latin-1", "replace"), digest_size=16, person=b"caller").hexdigest()


class _KeysFile:
    """The keys of a file that may change while the gateway runs."""

    def __init__(self, path: Path, default: CallerClass) -> None:
        self._path = path
        self._default = default
        self._seen = self._state()
        self._looked = time.monotonic()
        self._keys = keys.load(path, default)

    def current(self) -> Keys:
        """Return the keys as the file has them, at most a second old; those before where it is broken."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            state = self._state()
            if state != self._seen:
                self._seen = state
                self._reload()
        return self._keys

    def _reload(self) -> None:
        try:
            self._keys = keys.load(self._path, self._default)
        except keys.KeysError as error:
            log.error("keys_file_not_read", reason=str(error))  # noqa: TRY400  # its message says all
        else:
            log.info("keys_file_read", keys=len(self._keys.by_hash))

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # The last changes where only the mode does, and with it whether the file can be read.
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_ctime_ns


def access_problem(settings: Settings) -> str | None:
    """Return why the gateway must not start: reachable by others without API keys, or no keys file."""
    try:
        keyed = Callers(settings).keyed
    except keys.KeysError as error:
        return str(error)
    if settings.metrics_access == "key" and not keyed:
        return "GATEWAY_METRICS_ACCESS=key: there is no API key; set GATEWAY_KEYS_FILE or GATEWAY_API_KEYS"
    if keyed or settings.open_access or is_loopback(settings.host):
        return None
    return (
        f"GATEWAY_HOST={settings.host}: other machines can reach this address, and no API key is asked for. "
        "Set GATEWAY_KEYS_FILE (see `llava-gateway keys --help`) or GATEWAY_API_KEYS; to serve everybody who "
        "can reach it, set GATEWAY_OPEN_ACCESS=true."
    )


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
