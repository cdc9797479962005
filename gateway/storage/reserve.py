"""Room on the disk that is kept for deleting: on a full one SQLite can't even write down what goes."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME: Final = "state.reserve"
SIZES: Final = (2**24, 2**22, 2**20)  # bytes: the first that there is room for


class Reserve:
    """A file of 16 MiB, or less on a disk that has no more, shared by the processes that use a folder."""

    def __init__(self) -> None:
        self._file: int | None = None

    def open(self, folder: Path) -> bool:
        """Open the file and take its room; say whether no other process had it open.

        A disk that has no room for it is no error.
        """
        if self._file is not None:
            return False
        try:
            self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return False
        alone = _locked(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.renew()
        return alone

    def share(self) -> None:
        """Let other processes know that this one uses the folder, until it ends."""
        if self._file is not None:
            _locked(self._file, fcntl.LOCK_SH)

    def renew(self) -> None:
        """Take the room again, if there is enough."""
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
        """Give the room to the disk; say whether there was any."""
        if self._file is None:
            return False
        try:
            had = os.fstat(self._file).st_size > 0
            os.ftruncate(self._file, 0)
        except OSError:
            return False
        return had

    def close(self) -> None:
        """Let go of the file, which keeps its room."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)


def _locked(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except OSError:
        return False
    return True
