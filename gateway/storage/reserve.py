"""Keeps disk space for deletions: on a full disk, SQLite could not even write the log of one."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME: Final = "state.reserve"
SIZES: Final = (2**24, 2**22, 2**20)  # bytes; the first that the disk has space for is used


class Reserve:
    """A file of 16 MiB (less if the disk is nearly full), shared by the processes that use a folder."""

    def __init__(self) -> None:
        self._file: int | None = None

    def open(self, folder: Path) -> bool:
        """Open the file and allocate it; return whether this is the only process that uses it.

        A disk without space for it is not an error.
        """
        if self._file is not None:
            return False
        try:
            self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return False
        alone = _lock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.renew()
        return alone

    def share(self) -> None:
        """Mark the folder as in use, for other processes, until this one ends."""
        if self._file is not None:
            _lock(self._file, fcntl.LOCK_SH)

    def renew(self) -> None:
        """Allocate the file again, if the disk has space."""
        if self._file is None:
            return
        for size in SIZES:
            try:
                os.posix_fallocate(self._file, 0, size)
            except OSError:
                self.release()
            else:
                return

    def release(self) -> bool:
        """Return the file's space to the disk; return whether it had any."""
        if self._file is None:
            return False
        try:
            had = os.fstat(self._file).st_size > 0
            os.ftruncate(self._file, 0)
        except OSError:
            return False
        return had

    def close(self) -> None:
        """Close the file, which keeps its space."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)


def _lock(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except OSError:
        return False
    return True
