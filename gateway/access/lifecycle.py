"""The phases of a shutdown: serving → draining → closing.

While it drains it answers as before, but says that it is not ready and closes each connection after its
answer, so that balancers and clients go elsewhere. While it closes it takes no new request; those that run
may end.
"""

from enum import IntEnum

from gateway.errors import ShuttingDown


class Phase(IntEnum):
    SERVING = 0
    DRAINING = 1
    CLOSING = 2


class Lifecycle:
    """The gateway's current phase."""

    def __init__(self) -> None:
        self.phase = Phase.SERVING

    @property
    def draining(self) -> bool:
        """Whether the gateway is shutting down."""
        return self.phase >= Phase.DRAINING

    def check(self) -> None:
        """Raise ShuttingDown (503) if new requests are refused."""
        if self.phase is Phase.CLOSING:
            raise ShuttingDown("the gateway is shutting down")
