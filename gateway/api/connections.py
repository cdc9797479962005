"""All connections of one server: how many there may be, and which are ended."""

import asyncio
import fcntl
import struct
import termios
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.sampling import Sampler

LOOKS = 4  # at what is unsent, in the time that a client has to take some of it

log = structlog.get_logger()


class Unsent:
    """What a client has not taken of its answers, and for how long it has taken nothing."""

    def __init__(self) -> None:
        self.resumed = 0  # times that the transport said that its client takes more
        self._seen = (0, 0)
        self._since = 0.0

    def stuck_for(self, size: int, now: float) -> float:
        """Return for how many seconds the client has taken nothing of `size` bytes, the last time seen."""
        seen = (size, self.resumed)
        if not size or seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since


class Open(Protocol):
    """An open connection, as far as the others are concerned."""

    transport: asyncio.Transport
    address: str
    unsent: Unsent


class OpenConnections:
    """Who may have another connection, and which may be closed for it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self._open_gauge = metrics.connections
        self._ended = metrics.connections_ended
        self._sampler = Sampler()
        self._open: set[Open] = set()
        self._by_address: Counter[str] = Counter()
        self._idle: OrderedDict[Open, None] = OrderedDict()  # the longest idle first
        self._looks = False

    def opened(self, connection: Open) -> bool:
        """Count `connection`, closing the longest idle one where there are too many.

        Return whether it may send more than health checks.
        """
        self._open.add(connection)
        self._open_gauge.inc()
        self._look_later()
        address = connection.address
        self._by_address[address] += 1
        if 0 < self.settings.max_connections_per_address < self._by_address[address]:
            return self._close_idle(lambda other: other.address == address and other is not connection)
        if len(self._open) > self.settings.max_connections:
            return self._close_idle(lambda other: other is not connection)
        return True

    def closed(self, connection: Open) -> None:
        self._open.discard(connection)
        self._open_gauge.dec()
        self._idle.pop(connection, None)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def idles(self, connection: Open) -> None:
        self._idle[connection] = None

    def works(self, connection: Open) -> None:
        self._idle.pop(connection, None)

    def ended(self, reason: str) -> None:
        """Count a connection that the gateway ends, and tell the log: of many with one reason, of some."""
        self._ended.labels(reason).inc()
        left_out = self._sampler.admit(reason)
        if left_out is not None:
            log.warning("connection_ended", reason=reason, left_out=left_out)

    def _close_idle(self, fits: Callable[[Open], bool]) -> bool:
        for other in self._idle:
            if fits(other):
                del self._idle[other]
                self.ended("idle")
                other.transport.close()
                return True
        return False

    def _look_later(self) -> None:
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(self.settings.send_timeout / LOOKS, self._look)

    def _look(self) -> None:
        """End connections whose clients take nothing of their answers: closing waits for them without end."""
        self._looks = False
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            if connection.unsent.stuck_for(_size(connection.transport), now) >= self.settings.send_timeout:
                self.ended("unread")
                connection.transport.abort()
        if self._open:
            self._look_later()


def _size(transport: asyncio.Transport) -> int:
    """Return how many bytes the client has not taken, where they are more than the system keeps for it.

    The system's own part is counted too, or a slow client could seem to take nothing for a while. tcp(7).
    """
    size = transport.get_write_buffer_size()
    if size:
        with suppress(OSError):
            kept = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            size += struct.unpack("i", kept)[0]
    return size
