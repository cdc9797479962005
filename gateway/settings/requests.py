"""How many requests run, how long they may take, and how the gateway ends."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from gateway.settings.group import Group


class Requests(Group):
    """How many requests run, how long they may take, and how the gateway ends."""

    max_running: PositiveInt = Field(
        default=64,
        description="Maximum concurrent requests. Default: 64, or twice the engine's `max_num_seqs` if "
        "that is more.",
    )
    max_waiting: NonNegativeInt = Field(default=256, description="Maximum queued requests; more get 503.")
    max_wait: PositiveFloat = Field(default=30, description="Maximum time in the queue; then 503.")
    request_timeout: PositiveFloat = Field(
        default=900, description="Maximum total time of a request, from its first byte to the answer's last."
    )
    stall_timeout: PositiveFloat = Field(
        default=300, description="Maximum time a request waits for the engine's next output."
    )
    heartbeat_timeout: PositiveFloat = Field(
        default=30,
        description="Maximum time for which the engine shows no sign of life (token, probe, CPU time) before "
        "it is restarted.",
    )
    drain_delay: NonNegativeFloat = Field(
        default=0,
        description="Time after SIGTERM to accept requests while `/health/ready` already answers 503.",
    )
    shutdown_timeout: PositiveFloat = Field(
        default=30, description="Time for running requests to finish after the drain delay."
    )
