"""Reloads the keys file of a running gateway, and keeps the last good version."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from gateway.access import keys
from gateway.access.keys import Keys, KeysError

LOOK_EVERY = 1.0  # seconds between checks for a change
# Seconds: a file without its last line may be half written, and revokes keys only after this time unchanged.
QUIET: Final = 10.0

log = structlog.get_logger()


class KeysFile:
    """The keys of a file that may change at any time. The constructor raises what `load` raises."""

    def __init__(self, path: Path, load: Callable[[], Keys]) -> None:
        self._path = path
        self._load = load
        self._state = self._look()
        self._looked = self._changed = time.monotonic()
        self._again: float | None = None  # when to retry a changed file that was not accepted
        self._keys = load()
        self._logged: str | None = None  # the last logged reason for not accepting the file
        self._watched = False

    @property
    def stale(self) -> bool:
        """Report whether the file is unusable, so that the last good keys stay valid."""
        return self._logged is not None

    def current(self) -> Keys:
        """Return the keys of the last good file."""
        if not self._watched and time.monotonic() - self._looked >= LOOK_EVERY:
            self.look()
        return self._keys

    async def watch(self) -> None:
        """Check for changes until cancelled, in a thread: a slow disk must not block the event loop."""
        self._watched = True
        try:
            while True:
                await asyncio.to_thread(self.look)
                await asyncio.sleep(LOOK_EVERY)
        finally:
            self._watched = False

    def look(self) -> None:
        """Reload the file if it has changed and is complete."""
        now = self._looked = time.monotonic()
        state = self._look()
        if state != self._state:
            self._state = state
            self._changed = self._again = now
        if self._again is None or now < self._again:
            return
        try:
            found = self._load()
            self._check_complete(found, quiet=now - self._changed)
        except KeysError as error:
            self._again = now + QUIET
            if self._logged != str(error):
                self._logged = str(error)
                log.error("keys_file_not_read", reason=self._logged)  # noqa: TRY400  # the message is enough
            return
        if self._look() == state:  # else it changed during the read; the next check reloads it
            self._keys, self._again, self._logged = found, None, None
            log.info("keys_file_read", keys=len(found.by_hash))

    def _check_complete(self, found: Keys, quiet: float) -> None:
        """Raise KeysError if `found` may be half written."""
        if found.complete:
            return
        if self._keys.complete:
            raise KeysError(f"{self._path}: its last line, `{keys.END}`, is missing; it may be half written")
        if self._keys.by_hash and not found.by_hash:
            raise KeysError(
                f"{self._path}: it has no keys any more; use `keys revoke` to remove the last one"
            )
        if quiet < QUIET and any(found.by_hash.get(key.hash) != key for key in self._keys.by_hash.values()):
            raise KeysError(
                f"{self._path}: keys are changed or missing; it is loaded after {QUIET:g} s without a change"
            )

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # `st_ctime_ns` changes with the mode, which decides whether the file can be read.
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_ctime_ns
