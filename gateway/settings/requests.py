"""Settings of concurrency, time limits and shutdown."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from gateway.settings.group import Group


class Requests(Group):
    """Concurrency, time limits and shutdown."""

    max_running: PositiveInt = Field(
        default=64,
        description="Maximum concurrent requests. Default: 64, or twice the engine's `max_num_seqs` if "
        "that is higher.",
    )
    max_waiting: NonNegativeInt = Field(
        default=256, description="Maximum queued requests; further ones get 503."
    )
    max_wait: PositiveFloat = Field(
        default=30, description="Maximum time in the queue before a request gets 503."
    )
    request_timeout: PositiveFloat = Field(
        default=900,
        description="Maximum total time of a request, from its first byte to the last of its answer.",
    )
    stall_timeout: PositiveFloat = Field(
        default=300, description="Maximum time a request waits for the engine's next output."
    )
    heartbeat_timeout: PositiveFloat = Field(
        default=30,
        description="Restart the engine after this many seconds without a token, a probe answer or CPU use.",
    )
    drain_delay: NonNegativeFloat = Field(
        default=0,
        description="Time after SIGTERM to keep accepting requests while `/health/ready` answers 503.",
    )
    shutdown_timeout: PositiveFloat = Field(
        default=30, description="Time for running requests to finish after the drain delay."
    )
