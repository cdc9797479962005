"""A private directory for the engine's sockets and other files of one run, short enough for a socket's path.

It is removed when the engine ends. The next start removes the directories of killed processes: a directory is
in use while its lock is held, and the system releases a dead process's locks.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PREFIX = "llava-gateway-engine-"
LONGEST = 107 - len("/") - 36  # bytes: a socket's path has 107 at most (unix(7)), vLLM's names have 36
SHORT = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108  # the directory is private
_LOCK = "lock"
YOUNG = 60.0  # seconds in which a directory may not have its lock yet


class RuntimeDirectory:
    """Makes the directory; `remove` removes it."""

    def __init__(self) -> None:
        """Make the directory and remove those of dead processes. Raises OSError if no place is writable."""
        places = list(_places())
        for place in places:
            _sweep(place)
        self.path, self._lock = _made(places)

    def remove(self) -> None:
        """Remove the directory and its content."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _places() -> Iterator[Path]:
    """Yield the folders it may be in: those for temporary files whose paths are short enough."""
    found = [Path(tempfile.gettempdir())]
    if chosen := os.environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(chosen))
    random = 8  # characters that mkdtemp adds
    for place in dict.fromkeys([*found, *SHORT]):
        if len(os.fsencode(place)) + len("/") + len(PREFIX) + random <= LONGEST:
            yield place


def _made(places: list[Path]) -> tuple[Path, int | None]:
    problem: OSError | None = None
    for place in places:
        try:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as error:
            problem = error
            continue
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return path, lock
    tried = ", ".join(map(str, places))
    raise OSError(f"the engine's sockets need a directory that can be written; tried {tried}: {problem}")


def _sweep(place: Path) -> None:
    """Remove this user's directories in `place` whose process has ended."""
    for path in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if not (path / _LOCK).exists():
                if time.time() - found.st_mtime > YOUNG:
                    path.rmdir()  # Fails if it is not empty: then another program made it.
            elif _is_abandoned(path / _LOCK):
                shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(lock: Path) -> bool:
    opened = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(opened)
    return True
