"""The keys file as a running gateway has it: the last good one, while the file changes."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from gateway.access import keys
from gateway.access.keys import Keys, KeysError

LOOK_EVERY = 1.0  # seconds between two looks whether the file has changed
# Seconds without a change before a file without its last line may take keys away: it may be half written.
QUIET: Final = 10.0

log = structlog.get_logger()


class KeysFile:
    """The keys of the file at `path`, which may change at any time. Raises what `load` raises at first."""

    def __init__(self, path: Path, load: Callable[[], Keys]) -> None:
        self._path = path
        self._load = load
        self._state = self._look()
        self._looked = self._changed = time.monotonic()
        self._again: float | None = None  # when the file is read next, if it has changed and was not taken
        self._keys = load()
        self._told: str | None = None  # why the file was not taken
        self._watched = False

    @property
    def stale(self) -> bool:
        """Whether the file cannot be used, so that older keys are."""
        return self._told is not None

    def current(self) -> Keys:
        """Return the keys as the file had them when it was last good."""
        if not self._watched and time.monotonic() - self._looked >= LOOK_EVERY:
            self.look()
        return self._keys

    async def watch(self) -> None:
        """Look for changes until cancelled, in a thread: neither a slow disk nor many keys stop the loop."""
        self._watched = True
        try:
            while True:
                await asyncio.to_thread(self.look)
                await asyncio.sleep(LOOK_EVERY)
        finally:
            self._watched = False

    def look(self) -> None:
        """Take the file if it has changed and is whole."""
        now = self._looked = time.monotonic()
        state = self._look()
        if state != self._state:
            self._state = state
            self._changed = self._again = now
        if self._again is None or now < self._again:
            return
        try:
            found = self._load()
            self._check_whole(found, quiet=now - self._changed)
        except KeysError as error:
            self._again = now + QUIET
            if self._told != str(error):
                self._told = str(error)
                log.error("keys_file_not_read", reason=self._told)  # noqa: TRY400  # its message says all
            return
        if self._look() == state:  # or it changed while it was read, and the next look sees to it
            self._keys, self._again, self._told = found, None, None
            log.info("keys_file_read", keys=len(found.by_hash))

    def _check_whole(self, found: Keys, quiet: float) -> None:
        """Raise KeysError where `found` may be half of what is being written."""
        if found.complete:
            return
        if self._keys.complete:
            raise KeysError(f"{self._path}: its last line, `{keys.END}`, is missing: is it half written?")
        if self._keys.by_hash and not found.by_hash:
            raise KeysError(f"{self._path}: it has no keys any more; `keys revoke` takes the last one away")
        if quiet < QUIET and any(found.by_hash.get(key.hash) != key for key in self._keys.by_hash.values()):
            raise KeysError(
                f"{self._path}: keys are changed or missing; it is taken after {QUIET:g} s of quiet"
            )

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # The last changes where only the mode does, and with it whether the file can be read.
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_ctime_ns
