"""The keys file: who may call, by the hash of an API key, and in which class. `llava-gateway keys` writes it.

    [classes.batch]                    # what each caller of a class may do
    requests_per_minute = 600
    weight = 0.5

    [keys.alice]
    hash = "sha256:9f86d081…"          # of the whole key; the key itself is shown once, when it is made
    class = "batch"
    created = 2026-11-24

A key has 256 random bits, so its plain SHA-256 cannot be searched for.
"""

import datetime as dt
import fcntl
import hashlib
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import tomlkit

PREFIX = "sk-"
MOST = 10**12  # of any limit
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class KeysError(ValueError):
    """The keys file cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class CallerClass:
    """What each caller of a class may do; None means no limit."""

    name: str = "default"
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    images_per_minute: int | None = None
    requests_at_once: int | None = None
    weight: float = 1.0  # share of the engine against callers of other weights


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is known, by the hash of it."""

    name: str
    hash: str
    klass: CallerClass
    created: dt.date | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys of a file, by their hash."""

    by_hash: Mapping[str, Key] = field(default_factory=dict)


def hashed(key: str) -> str:
    """Return what the file holds of `key`: its hash."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def load(path: Path, default: CallerClass) -> Keys:
    """Return the keys of the file at `path`; a key without a class gets `default`. Raises KeysError."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise KeysError(f"{path}: {error}") from None
    for name, entries in table.items():
        if name not in ("classes", "keys"):
            raise KeysError(f"{path}: [{name}] is unknown; expected [classes.NAME] and [keys.NAME]")
        if not isinstance(entries, dict):
            raise KeysError(f"{path}: {name} is not a table; expected [{name}.NAME]")
    classes = {name: _class(path, name, entry) for name, entry in table.get("classes", {}).items()}
    classes.setdefault("default", default)
    found: dict[str, Key] = {}
    for name, entry in table.get("keys", {}).items():
        key = _key(path, name, entry, classes)
        if other := found.get(key.hash):
            raise KeysError(f"{path}: [keys.{name}]: its hash is that of [keys.{other.name}]")
        found[key.hash] = key
    return Keys(found)


def add(path: Path, name: str, klass: str | None) -> str:
    """Make a key for `name`, write its hash to the file at `path`, and return the key. Raises KeysError."""
    if NAME.fullmatch(name) is None:
        raise KeysError(f"name: {name!r} is not a name; use up to 64 letters, digits and . _ @ -")
    secret = PREFIX + secrets.token_urlsafe(32)
    with _changed(path) as document:
        keys = document.setdefault("keys", tomlkit.table(is_super_table=True))
        if name in keys:
            raise KeysError(f"{path}: there is a key for {name!r} already; revoke it first")
        if klass is not None and klass != "default" and klass not in document.get("classes", {}):
            raise KeysError(f"{path}: there is no class {klass!r}; add [classes.{klass}] to the file first")
        entry = tomlkit.table()
        entry["hash"] = hashed(secret)
        if klass is not None:
            entry["class"] = klass
        entry["created"] = dt.datetime.now(dt.UTC).date()
        keys[name] = entry
    return secret


def revoke(path: Path, name: str) -> None:
    """Take the key of `name` out of the file at `path`. Raises KeysError."""
    with _changed(path) as document:
        if name not in document.get("keys", {}):
            raise KeysError(f"{path}: there is no key for {name!r}")
        del document["keys"][name]


@contextmanager
def _changed(path: Path) -> Iterator[tomlkit.TOMLDocument]:
    """Yield what the file holds, and write what the block made of it. Two at once change it in turn."""
    path = path.resolve()  # A link stays one.
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            document = _document(path)
            yield document
            _write(path, document)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from None


def _document(path: Path) -> tomlkit.TOMLDocument:
    if not path.exists():
        return tomlkit.document()
    load(path, CallerClass())
    return tomlkit.parse(path.read_text())


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    """Write all of the file or nothing: whoever could read it still can, a new one its owner alone."""
    part = path.with_name(path.name + ".part")
    with suppress(FileNotFoundError):
        part.unlink()
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(tomlkit.dumps(document))
        with suppress(FileNotFoundError):
            before = path.stat()
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
    part.replace(path)


def _class(path: Path, name: str, entry: Any) -> CallerClass:
    where = f"{path}: [classes.{name}]"
    if not isinstance(entry, dict):
        raise KeysError(f"{where} is not a table")
    known = {field.name for field in fields(CallerClass)} - {"name"}
    for limit, value in entry.items():
        if limit not in known:
            raise KeysError(f"{where}: {limit!r} is unknown; expected {', '.join(sorted(known))}")
        wanted = (int, float) if limit == "weight" else (int,)
        if type(value) not in wanted or not 0 < value <= MOST:  # nor NaN
            raise KeysError(f"{where}: {limit} must be a positive number, got {value!r}")
    return CallerClass(name=name, **entry)


def _key(path: Path, name: str, entry: Any, classes: Mapping[str, CallerClass]) -> Key:
    where = f"{path}: [keys.{name}]"
    if NAME.fullmatch(name) is None:
        raise KeysError(f"{where}: that is not a name; use up to 64 letters, digits and . _ @ -")
    if not isinstance(entry, dict) or not re.fullmatch(r"sha256:[0-9a-f]{64}", str(entry.get("hash"))):
        raise KeysError(f"{where}: hash must be `sha256:` and 64 hexadecimal digits")
    for other in entry:
        if other not in ("hash", "class", "created"):
            raise KeysError(f"{where}: {other!r} is unknown; expected hash, class, created")
    klass = entry.get("class", "default")
    if not isinstance(klass, str) or klass not in classes:
        raise KeysError(f"{where}: there is no class {klass!r}; there are {', '.join(sorted(classes))}")
    return Key(name, entry["hash"], classes[klass], entry.get("created"))
