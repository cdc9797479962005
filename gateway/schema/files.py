"""`/v1/files`: OpenAI's file object, its list, and the form fields of an upload."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from gateway.schema.wire import Body, WireModel

Purpose = Literal["batch", "user_data", "vision"]  # of an upload; `batch_output` is written by batches
PURPOSES: Final = (*get_args(Purpose), "batch_output")


@dataclass(frozen=True, slots=True)
class FileObject:
    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | None
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    status_details: None = None


@dataclass(frozen=True, slots=True)
class FileDeleted:
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class ExpiresAfter(WireModel):
    """When a file expires, counted from its creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class UploadForm(Body):
    """The form fields of an upload besides the file."""

    purpose: Purpose
    expires_after: ExpiresAfter | None = None
