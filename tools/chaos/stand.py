"""What is attacked: gateways on the real engine, a Redis, a small disk, and a watch over their memory."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.access.test_limits import start_redis
from tests.servers import Gateway, core, free_port, start, wait_until_ready

HONEST, ATTACKER = "sk-honest", "sk-attacker"
HEARTBEAT = 3.0
DRAIN = 5.0
POISONED = Path(__file__).parent / "poison"
SETTINGS = {
    "profile": "demo",
    "api_keys": f"honest:{HONEST},attacker:{ATTACKER}",
    "heartbeat_timeout": str(HEARTBEAT),
    "body_timeout": "10",
    "send_timeout": "5",
    "fetch_timeout": "3",
    "fetch_allow": "127.0.0.1",
    "drain_delay": str(DRAIN),
    "requests_per_minute": "1000000",  # so that every request is counted in Redis
}
DISK = 16  # MiB, of the small disk
LOOK_EVERY = 0.25  # seconds between two looks at the memory


@dataclass(slots=True)
class Replica:
    """One gateway, in a process that can be ended and started again on its port."""

    folder: Path
    settings: dict[str, str]
    port: int = field(default_factory=free_port)
    gateway: Gateway = field(default_factory=lambda: Gateway(""))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with _poisonable():
            self.gateway, self.process = start(self.folder, "--port", str(self.port), **self.settings)
        self.gateway = Gateway(f"http://127.0.0.1:{self.port}", self.process.pid, self.gateway.log)

    async def ready(self) -> None:
        await asyncio.to_thread(wait_until_ready, self.gateway, self.process)

    def core(self) -> psutil.Process:
        """Return the process of the engine's core."""
        return core(self.gateway)

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 120)

    def kill(self) -> None:
        """Leave no process behind, whatever has happened."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def _poisonable() -> Iterator[None]:
    """Have the engine load the plug-in that dies of the poison request."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{POISONED}{os.pathsep}{before}" if before else str(POISONED)
    try:
        yield
    finally:
        os.environ["PYTHONPATH"] = before


@dataclass(slots=True)
class Redis:
    """A Redis that can go away and come back."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        _, self.process = start_redis(self.port, self.folder)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True, slots=True)
class Stand:
    """What runs; the small disk is where the first gateway stores things."""

    replicas: list[Replica]
    redis: Redis
    disk: Path | None


@dataclass(slots=True)
class Peak:
    """The largest resident memory seen, in bytes: of all gateways' own processes, and of their engines'."""

    gateway: int = 0
    engine: int = 0


@asynccontextmanager
async def watched_memory(replicas: list[Replica]) -> AsyncIterator[Peak]:
    """Yield the peak while the block runs."""
    peak = Peak()

    async def watch() -> None:
        while True:
            gateway = engine = 0
            for replica in replicas:
                with suppress(psutil.Error):
                    process = psutil.Process(replica.gateway.pid)
                    gateway += process.memory_info().rss
                    for child in process.children(recursive=True):
                        with suppress(psutil.Error):
                            engine += child.memory_info().rss
            peak.gateway, peak.engine = max(peak.gateway, gateway), max(peak.engine, engine)
            await asyncio.sleep(LOOK_EVERY)

    watching = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        watching.cancel()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Yield a file system of DISK MiB, None where it cannot be mounted: that takes root."""
    folder.mkdir()
    size = f"size={DISK}m"
    command = ["mount", "-t", "tmpfs", "-o", size, "none", str(folder)]
    if shutil.which("mount") is None or subprocess.call(command, stderr=subprocess.DEVNULL):
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.call(["umount", "--lazy", folder])


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no room on the file system while the block runs."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(2**16))
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"0")
        yield
    finally:
        ballast.unlink()
