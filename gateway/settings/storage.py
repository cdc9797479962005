"""Settings of stored files, batches and responses."""

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from gateway.settings.group import Group


class Storage(Group):
    """Stored files, batches and responses."""

    state_dir: Path | None = Field(
        default=None,
        description="Folder for files, batches and responses. Default: `$XDG_STATE_HOME/llava-gateway`.",
    )
    state_url: str | None = Field(
        default=None,
        description="URL of the PostgreSQL in which gateways on several hosts keep their files, batches and "
        "responses, `postgresql://…`. By default they are in a file in `GATEWAY_STATE_DIR`.",
    )
    state_max_bytes: PositiveInt = Field(
        default=10 * 2**30, description="Maximum total size of everything stored."
    )
    state_max_bytes_per_caller: PositiveInt | None = Field(
        default=None,
        description="Maximum size of one caller's files, batches and responses. Default: a quarter of "
        "`GATEWAY_STATE_MAX_BYTES` with API keys, else no limit per caller.",
    )
    state_ttl: PositiveInt = Field(
        default=30 * 86400, description="How long responses, batches and their files are kept."
    )
    upload_max_bytes: PositiveInt = Field(
        default=200 * 10**6, description="Maximum size of an uploaded file."
    )
    upload_timeout: PositiveFloat = Field(
        default=600, description="Maximum time to receive an uploaded file."
    )
    max_uploads: PositiveInt = Field(
        default=8, description="Maximum concurrent uploads; each takes 2 MB of memory."
    )
    batch_max_running: PositiveInt = Field(
        default=8, description="Maximum concurrent batch requests while no other request runs."
    )
