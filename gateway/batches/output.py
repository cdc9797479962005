"""Writes a batch's output and error files from the results of its lines."""

from typing import Final
from uuid import uuid4

from gateway.schema.batches import result_line
from gateway.storage.batches import Batches
from gateway.storage.files import CHUNK_BYTES, Files, Upload

# Messages for lines that were never answered, by code.
NEVER: Final = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
    "storage_quota_exceeded": "This request was not executed because its result exceeds the storage quota.",
    "api_key_revoked": "This request was not executed because the API key that made its batch was revoked.",
}


async def write(
    batches: Batches, files: Files, batch_id: str, caller: str, reason: str
) -> list[Upload | None]:
    """Write the output file and the error file; return both, None for a file without lines.

    `reason` is the code for lines that were never answered.
    """
    output = _LineFile(files, caller, f"{batch_id}_output.jsonl")
    errors = _LineFile(files, caller, f"{batch_id}_error.jsonl")
    async for result in batches.results(batch_id):
        if result.json is None:
            never = {"code": reason, "message": NEVER[reason]}
            await errors.add(result_line(f"batch_req_{uuid4().hex}", result.custom_id, error=never))
        else:
            await (errors if result.failed else output).add(result.json)
    return [await output.close(), await errors.close()]


class _LineFile:
    """A file of lines, created with its first line."""

    def __init__(self, files: Files, caller: str, name: str) -> None:
        self._files = files
        self._caller = caller
        self._name = name
        self._upload: Upload | None = None
        self._pending = bytearray()

    async def add(self, line: bytes) -> None:
        self._pending += line
        while len(self._pending) >= CHUNK_BYTES:
            await self._write()

    async def close(self) -> Upload | None:
        if self._pending:
            await self._write()
        return self._upload

    async def _write(self) -> None:
        if self._upload is None:
            # Outside the quota: the results are counted already, and deleted when the file is finished.
            self._upload = await self._files.begin_beyond_quota(self._caller, self._name)
        piece = bytes(self._pending[:CHUNK_BYTES])
        del self._pending[:CHUNK_BYTES]
        await self._upload.write(piece)
