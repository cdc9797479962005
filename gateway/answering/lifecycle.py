"""The phases of a shutdown: serving → draining → closing.

While draining, the gateway answers as before, but reports that it is not ready and closes each connection
after its answer, so that load balancers and clients go elsewhere. While closing, it refuses new requests and
lets running ones finish.
"""

from enum import IntEnum

from gateway.errors import ShuttingDown


class Phase(IntEnum):
    """The phases, in their order."""

    SERVING = 0
    DRAINING = 1
    CLOSING = 2


class Lifecycle:
    """The gateway's current phase."""

    def __init__(self) -> None:
        self.phase = Phase.SERVING

    @property
    def draining(self) -> bool:
        """Report whether the gateway is shutting down."""
        return self.phase >= Phase.DRAINING

    def check(self) -> None:
        """Raise ShuttingDown (503) if new requests are refused."""
        if self.phase is Phase.CLOSING:
            raise ShuttingDown("the gateway is shutting down")
