"""Stored files, batches and responses."""

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from gateway.settings.group import Group


class Storage(Group):
    """Stored files, batches and responses."""

    state_dir: Path | None = Field(
        default=None,
        description="Folder for files, batches and stored responses; `$XDG_STATE_HOME/llava-gateway` if not "
        "set.",
    )
    state_max_bytes: PositiveInt = Field(
        default=10 * 2**30, description="Maximum total size of everything stored."
    )
    state_max_bytes_per_caller: PositiveInt | None = Field(
        default=None,
        description="Maximum that one caller's files, batches and responses may take. Default: with API keys "
        "a quarter of `GATEWAY_STATE_MAX_BYTES`, else no limit of its own.",
    )
    state_ttl: PositiveInt = Field(
        default=30 * 86400, description="How long responses, batches and their files are stored."
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
        default=8, description="Maximum concurrent batch requests when nothing else runs."
    )
