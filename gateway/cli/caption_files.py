"""Captions in files of their own: text or XMP beside each image, or in the image itself."""

import errno
from pathlib import Path
from typing import Final

from gateway.cli import image_metadata, xmp
from gateway.cli.atomic import write_atomically
from gateway.cli.caption_outputs import CannotKeep, ImageFile

DISK_IS_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class TextFiles:
    """`NAME.txt` beside `NAME.jpg`, as kohya's trainers read them."""

    def __init__(self) -> None:
        self._images: dict[Path, str] = {}  # by text file

    def check(self, image: ImageFile) -> None:
        target = image.path.with_suffix(".txt")
        other = self._images.setdefault(target, image.name)
        if other != image.name:
            raise CannotKeep(f"{target.name} is the caption of {other}, too; rename one of the two images")

    def read(self, image: ImageFile) -> str | None:
        content = read_file(image.path.with_suffix(".txt"))
        if content is None:
            return None
        return content.decode(errors="replace").removeprefix("\ufeff").rstrip("\r\n")

    def write(self, image: ImageFile, text: str) -> None:
        write_file(image.path.with_suffix(".txt"), text.encode() + b"\n")


class XmpFiles:
    """`NAME.jpg.xmp` beside `NAME.jpg`, as darktable, digiKam and Immich read them; other fields stay."""

    def check(self, image: ImageFile) -> None:
        """Accept every image."""

    def read(self, image: ImageFile) -> str | None:
        content = read_file(_sidecar(image))
        try:
            return xmp.read(content) if content else None
        except xmp.MetadataError as error:
            raise CannotKeep(f"{_sidecar(image).name}: {error}") from None

    def write(self, image: ImageFile, text: str) -> None:
        try:
            packet = xmp.write(read_file(_sidecar(image)), text)
        except xmp.MetadataError as error:
            raise CannotKeep(f"{_sidecar(image).name}: {error}") from None
        write_file(_sidecar(image), packet)


def _sidecar(image: ImageFile) -> Path:
    return image.path.with_name(f"{image.path.name}.xmp")


class EmbeddedDescriptions:
    """The description in a JPEG or PNG itself, as photo libraries read it."""

    def check(self, image: ImageFile) -> None:
        self.read(image)

    def read(self, image: ImageFile) -> str | None:
        try:
            return image_metadata.read(read_file(image.path) or b"")
        except xmp.MetadataError as error:
            raise CannotKeep(str(error)) from None

    def write(self, image: ImageFile, text: str) -> None:
        try:
            content = image_metadata.write(read_file(image.path) or b"", text)
        except xmp.MetadataError as error:
            raise CannotKeep(str(error)) from None
        # The file that a link leads to, and for good: it is a photograph.
        write_file(image.path.resolve(), content, sync=True)


def read_file(path: Path) -> bytes | None:
    """Return a file that belongs to one image, or None if there is none. Raises CannotKeep."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotKeep(f"{path.name}: {error.strerror}") from None


def write_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write a file that belongs to one image. Raises CannotKeep, and OSError if the disk is full."""
    try:
        write_atomically(path, content, sync=sync)
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise
        raise CannotKeep(f"{path.name}: {error.strerror}") from None
