"""Settings of connections, headers and bodies."""

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from gateway.settings.group import Group


class Connections(Group):
    """Connections, headers and bodies."""

    max_connections: PositiveInt = Field(
        default=1000,
        description="Maximum open connections; at the limit, a new one closes the one idle longest.",
    )
    max_connections_per_address: NonNegativeInt = Field(
        default=800, description="Maximum open connections per client address; 0 means no limit."
    )
    header_max_bytes: PositiveInt = Field(
        default=32 * 2**10, description="Maximum size of the request line and headers."
    )
    header_timeout: PositiveFloat = Field(
        default=20,
        description="Maximum time for a client to send its request headers.",
    )
    body_max_bytes: PositiveInt = Field(default=64 * 2**20, description="Maximum request body size.")
    body_timeout: PositiveFloat = Field(default=30, description="Maximum time to receive a request body.")
    send_timeout: PositiveFloat = Field(
        default=60, description="Maximum time for a client to accept the next part of its answer."
    )
