"""What belongs to one request: made when it comes in, over HTTP or from a batch, and passed down."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from gateway.access.callers import Caller
from gateway.access.limits import Limits
from gateway.answering.deadlines import Running
from gateway.telemetry.request_log import RequestLog


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request on its way through the gateway.

    `priority` is the engine's, of a batch's line; a request over HTTP gets one with its engine permits.
    """

    caller: Caller
    running: Running  # its deadlines, and what ends it from outside
    log: RequestLog  # its stage, its timings and what its line in the log says
    priority: int | None = None
    limit_headers: dict[str, str] = field(default_factory=dict)  # `x-ratelimit-…`, for its answer
    permits: AsyncExitStack = field(default_factory=AsyncExitStack)  # held until its answer is sent
    # Held until it is prepared: memory for its body, and for what it refers to in the storage.
    input_permits: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.permits.push_async_exit(self.input_permits)

    async def count(self, limits: Limits) -> None:
        """Count the request against its caller's limits. Raises RateLimited."""
        self.limit_headers.update(await limits.request(self.caller))
