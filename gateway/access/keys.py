"""Reads and writes the keys file: the hash and the class of each API key. See `llava-gateway keys`.

    [classes.batch]                    # limits for each caller of the class
    requests_per_minute = 600
    weight = 0.5

    [keys.alice]
    hash = "sha256:9f86d081…"          # of the complete key, which is shown only once, when it is created
    class = "batch"
    created = 2026-11-24
    owner = "sha256:2c26b46b…"         # of the name's first key: stored data belongs to the owner
    previous = [{hash = "sha256:2c26b46b…", until = 2026-12-01T00:00:00Z}]  # replaced, but valid until then
    # end of the keys file

A key has 256 random bits, so a plain SHA-256 is safe from guessing. The last line marks the file as
complete: a running gateway does not load a file without it.
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
from functools import cached_property
from pathlib import Path
from typing import Any

import tomlkit

PREFIX = "sk-"
MOST = 10**12  # largest value of a limit
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
HASH = re.compile(r"sha256:[0-9a-f]{64}")
END = "# end of the keys file"


class KeysError(ValueError):
    """The keys file cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class CallerClass:
    """The limits of each caller of a class; None means no limit."""

    name: str = "default"
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    images_per_minute: int | None = None
    requests_at_once: int | None = None
    weight: float = 1.0  # of the engine's time, relative to other callers


@dataclass(frozen=True, slots=True)
class Key:
    """A known key, of which only the hash is stored."""

    name: str
    hash: str
    caller_class: CallerClass
    owner: str  # the hash of the name's first key; the key's own hash if it was never replaced
    created: dt.date | None = None
    until: dt.datetime | None = None  # when a replaced key expires

    @property
    def scope(self) -> str:
        """Return the scope of stored data: it follows the first key, because a name may be reused."""
        return scope_of(self.owner, b"key")


@dataclass(frozen=True)
class Keys:
    """All keys of a file by their hash. `complete` is whether the file has its last line."""

    by_hash: Mapping[str, Key] = field(default_factory=dict)
    complete: bool = False

    @cached_property
    def scopes(self) -> frozenset[str]:
        return frozenset(key.scope for key in self.by_hash.values())


def hashed(key: str) -> str:
    """Return the hash of `key`, as it is written to the file."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def scope_of(text: str, kind: bytes) -> str:
    """Return a hash of `text` that differs for each `kind`: a caller without a key never gets a key's scope.

    A hash, because scopes are stored and `text` may be a secret.
    """
    return hashlib.blake2b(text.encode("latin-1", "replace"), digest_size=16, person=kind).hexdigest()


def load(path: Path, default: CallerClass) -> Keys:
    """Return the keys of the file at `path`; a key without a class gets `default`. Raises KeysError."""
    text = _read(path)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeysError(f"{path}: {error}") from None
    for name, entries in table.items():
        if name not in ("classes", "keys"):
            raise KeysError(f"{path}: [{name}] is unknown; expected [classes.NAME] and [keys.NAME]")
        if not isinstance(entries, dict):
            raise KeysError(f"{path}: {name} is not a table; expected [{name}.NAME]")
    classes = {name: _class(path, name, entry) for name, entry in table.get("classes", {}).items()}
    classes.setdefault("default", default)
    found: dict[str, Key] = {}
    owners: dict[str, str] = {}
    for name, entry in table.get("keys", {}).items():
        for key in _keys(path, name, entry, classes):
            if other := found.get(key.hash):
                raise KeysError(f"{path}: [keys.{name}]: its hash is that of [keys.{other.name}]")
            if (owner := owners.setdefault(key.owner, name)) != name:
                raise KeysError(f"{path}: [keys.{name}]: its owner is that of [keys.{owner}]")
            found[key.hash] = key
    return Keys(found, complete=text.rstrip().endswith(END))


def _read(path: Path) -> str:
    try:
        # Opening a FIFO blocks until there is a writer, maybe for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), encoding="utf-8") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is not a regular file")  # noqa: TRY301  # reported like the others
            return file.read()
    except (OSError, ValueError) as error:
        raise KeysError(f"{path}: {error}") from None


def add(path: Path, name: str, class_name: str | None, *, replaced_until: dt.datetime | None = None) -> str:
    """Create a key for `name`, write its hash to the file at `path`, and return the key. Raises KeysError.

    With `replaced_until`, the new key replaces the name's current one, which stays valid until then.
    """
    if NAME.fullmatch(name) is None:
        raise KeysError(f"name: {name!r} is not a name; use up to 64 letters, digits and . _ @ -")
    secret = PREFIX + secrets.token_urlsafe(32)
    with _changed(path) as document:
        keys = document.setdefault("keys", tomlkit.table(is_super_table=True))
        if (
            class_name is not None
            and class_name != "default"
            and class_name not in document.get("classes", {})
        ):
            raise KeysError(
                f"{path}: there is no class {class_name!r}; add [classes.{class_name}] to the file first"
            )
        if replaced_until is not None:
            if name not in keys:
                raise KeysError(f"{path}: there is no key for {name!r} to replace")
            _replace(keys[name], replaced_until)
        elif name in keys:
            raise KeysError(f"{path}: there is a key for {name!r} already; use --replace, or revoke it first")
        else:
            keys[name] = tomlkit.table()
        entry = keys[name]
        entry["hash"] = hashed(secret)
        if class_name is not None:
            entry["class"] = class_name
        entry["created"] = dt.datetime.now(dt.UTC).date()
    return secret


def _replace(entry: Any, until: dt.datetime) -> None:
    """Move the key of `entry` to its previous ones; older ones expire no later than `until`."""
    now = dt.datetime.now(dt.UTC)
    entry.setdefault("owner", entry["hash"])
    previous = tomlkit.array()
    for old in [*entry.get("previous", ()), {"hash": entry["hash"], "until": until}]:
        if (ends := min(old["until"], until)) > now:
            inline = tomlkit.inline_table()
            inline.update({"hash": old["hash"], "until": ends})
            previous.append(inline)
    entry["previous"] = previous


def revoke(path: Path, name: str) -> None:
    """Remove all keys of `name` from the file at `path`. Raises KeysError."""
    with _changed(path) as document:
        if name not in document.get("keys", {}):
            raise KeysError(f"{path}: there is no key for {name!r}")
        del document["keys"][name]


@contextmanager
def _changed(path: Path) -> Iterator[tomlkit.TOMLDocument]:
    """Yield the file's content and write it back when the block ends, under a lock."""
    path = path.resolve()  # replace the target of a link, not the link
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
    lines = _read(path).splitlines(keepends=True)
    return tomlkit.parse("".join(line for line in lines if line.strip() != END))


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    """Replace the file atomically and keep its permissions; a new file is readable by its owner only."""
    part = path.with_name(path.name + ".part")
    with suppress(FileNotFoundError):
        part.unlink()
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(tomlkit.dumps(document).rstrip() + f"\n\n{END}\n")
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


def _keys(path: Path, name: str, entry: Any, classes: Mapping[str, CallerClass]) -> Iterator[Key]:
    """Yield the key of `name` and those that it replaced."""
    where = f"{path}: [keys.{name}]"
    if NAME.fullmatch(name) is None:
        raise KeysError(f"{where}: {name!r} is not a name; use up to 64 letters, digits and . _ @ -")
    if not isinstance(entry, dict):
        raise KeysError(f"{where} is not a table")
    known = ("hash", "class", "created", "owner", "previous")
    for other in entry:
        if other not in known:
            raise KeysError(f"{where}: {other!r} is unknown; expected {', '.join(known)}")
    digest = _hash(where, "hash", entry.get("hash"))
    class_name = entry.get("class", "default")
    if not isinstance(class_name, str) or class_name not in classes:
        raise KeysError(f"{where}: there is no class {class_name!r}; there are {', '.join(sorted(classes))}")
    owner = _hash(where, "owner", entry.get("owner", digest))
    yield Key(name, digest, classes[class_name], owner, entry.get("created"))
    previous = entry.get("previous", [])
    if not isinstance(previous, list) or not all(isinstance(old, dict) for old in previous):
        raise KeysError(f"{where}: previous must be a list of {{hash = …, until = …}}")
    for old in previous:
        digest = _hash(where, "previous.hash", old.get("hash"))
        until = old.get("until")
        if not isinstance(until, dt.datetime) or until.tzinfo is None:
            raise KeysError(f"{where}: previous.until must be a date, a time and `Z`; got {until}")
        yield Key(name, digest, classes[class_name], owner, until=until)


def _hash(where: str, name: str, value: Any) -> str:
    if not isinstance(value, str) or HASH.fullmatch(value) is None:
        raise KeysError(f"{where}: {name} must be `sha256:` and 64 hexadecimal digits")
    return value
