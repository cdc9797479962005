"""`/v1/files`: files by reference. Other callers cannot see what a caller uploads."""

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from gateway.access.fair_semaphore import FairSemaphore
from gateway.access.limits import Limits
from gateway.answering.lifecycle import Lifecycle
from gateway.api import body, multipart, query
from gateway.api.exchange import context_of
from gateway.api.list_page import ListPage
from gateway.api.stored import StoredAnswers
from gateway.api.streaming import json_response
from gateway.errors import StorageFull, StorageUnavailable
from gateway.schema.files import PURPOSES, FileDeleted, FileObject, UploadForm
from gateway.schema.validation import checked
from gateway.settings import Settings
from gateway.storage.files import CHUNK_BYTES, Files, Listing, StoredFile, Upload

LIST_MAX = 10_000  # OpenAI's, and its default
ENTRY_BYTES = 2048  # of a file in a list, with the longest name


def router(
    settings: Settings, files: Files, lifecycle: Lifecycle, answers: StoredAnswers, limits: Limits
) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    uploads = Uploads(settings, files)

    @routes.post("/v1/files", response_model=None)
    async def upload_file(request: Request) -> Response:
        lifecycle.check()
        await context_of(request).count(limits)
        return json_response(_object(await uploads.take(request)))

    @routes.get("/v1/files", response_model=None)
    async def list_files(request: Request) -> Response:
        query.only(request, ("after", "limit", "order", "purpose"))
        wanted = Listing(
            limit=query.integer(request, "limit", least=1, most=LIST_MAX, default=LIST_MAX),
            order=query.choice(request, "order", ("asc", "desc"), "desc"),
            after=request.query_params.get("after"),
            purpose=query.choice(request, "purpose", PURPOSES, "") or None,
        )
        caller = context_of(request).caller.scope

        async def listed() -> Response:
            page = ListPage(wanted.limit)
            async for some in files.pieces(caller, wanted):
                page.add([_object(file) for file in some])
            return page.response()

        number = min(wanted.limit, await files.count(caller))
        return await answers.full(request, ENTRY_BYTES * number, listed)

    @routes.get("/v1/files/{file_id}", response_model=None)
    async def retrieve_file(request: Request, file_id: str) -> Response:
        return json_response(_object(await files.get(file_id, context_of(request).caller.scope)))

    @routes.delete("/v1/files/{file_id}", response_model=None)
    async def delete_file(request: Request, file_id: str) -> Response:
        await files.delete(file_id, context_of(request).caller.scope)
        return json_response(FileDeleted(file_id))

    @routes.get("/v1/files/{file_id}/content", response_model=None)
    async def retrieve_file_content(request: Request, file_id: str) -> Response:
        file = await files.get(file_id, context_of(request).caller.scope)
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(file.bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
            # Whatever somebody uploaded, no browser takes it for a page of this address.
            "x-content-type-options": "nosniff",
        }
        size = min(file.bytes, CHUNK_BYTES)
        return await answers.pieces(request, size, files.chunks(file), headers)

    return routes


class Uploads:
    """Files on their way in, a bounded number at once, in turn between callers."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._settings = settings
        self._files = files
        self._places = FairSemaphore(
            settings.max_uploads,
            reserve=min(1, settings.max_uploads - 1),
            max_waiting=settings.max_waiting,
            max_wait=settings.max_wait,
        )

    async def take(self, request: Request) -> StoredFile:
        """Return the file that `request` uploaded. Raises Overloaded, RequestError, StorageFull."""
        async with self._places.hold(context_of(request).caller):
            return await self._store(request)

    async def _store(self, request: Request) -> StoredFile:
        settings, caller = self._settings, context_of(request).caller.scope
        content = body.stream(
            request.headers,
            request.receive,
            limit=settings.upload_max_bytes + multipart.FORM_MAX_BYTES,
            longest=settings.upload_timeout,
        )
        begun: list[Upload] = []

        async def open_file(filename: str) -> Upload:
            begun.append(await self._files.begin(caller, filename))
            return begun[0]

        try:
            fields = await multipart.read(
                request.headers.get("content-type", ""),
                content,
                open_file,
                max_bytes=settings.upload_max_bytes,
                chunk_bytes=CHUNK_BYTES,
            )
            form = checked(_nested(fields), UploadForm)
            upload = begun[0]
            expires_at = upload.created_at + seconds if (seconds := self._seconds(form)) else None
            await upload.finish(form.purpose, expires_at)
        except BaseException:
            for upload in begun:
                with suppress(StorageFull, StorageUnavailable):  # then it expires
                    await asyncio.shield(upload.drop())
            raise
        return await self._files.get(upload.id, caller)

    def _seconds(self, form: UploadForm) -> int | None:
        """Return how long the file is kept, in seconds; None is until it is deleted."""
        if form.expires_after is not None:
            return form.expires_after.seconds
        return self._settings.state_ttl if form.purpose == "batch" else None


def _nested(fields: dict[str, str]) -> dict[str, Any]:
    """Return `fields` with `expires_after[seconds]`, as forms write it, as a field of an object."""
    nested: dict[str, Any] = {}
    for name, value in fields.items():
        outer, bracket, inner = name.partition("[")
        if not bracket:
            nested[name] = value
            continue
        number = value.isascii() and value.isdigit() and len(value) < query.DIGITS
        holder = nested.setdefault(outer, {})
        if isinstance(holder, dict):
            holder[inner.removesuffix("]")] = int(value) if number else value
    return nested


def _object(file: StoredFile) -> FileObject:
    return FileObject(file.id, file.bytes, file.created_at, file.filename, file.purpose, file.expires_at)
