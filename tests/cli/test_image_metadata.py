"""Descriptions in images and `.xmp` files: Pillow reads what is written, and nothing else changes."""

import io
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image, IptcImagePlugin

from gateway.cli import image_metadata, iptc, xmp
from gateway.cli.xmp import MetadataError
from tests.cli.commands import run
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway

TEXT = "Ein <süßer> Hund & 犬"
OTHERS = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>
<rdf:li xml:lang="x-default">old</rdf:li>
</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>  <?xpacket end="w"?>"""


def picture(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def resources(*data_sets: tuple[int, int, bytes]) -> bytes:
    """Return Photoshop's resources: one that is not IPTC's, the IPTC, and the digest of it."""
    iim = b"".join(struct.pack(">BBBH", 0x1C, record, n, len(data)) + data for record, n, data in data_sets)
    found = b""
    for number, data in ((0x0422, b"\0\x48odd"), (0x0404, iim), (0x0425, b"d" * 16)):
        found += b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + b"\0" * (len(data) % 2)
    return found


def jpeg(*segments: bytes) -> bytes:
    """Return a JPEG with Exif and these segments."""
    exif = Image.Exif()
    exif[0x010E] = "OLYMPUS DIGITAL CAMERA"
    plain = picture("jpeg", exif=exif, comment=b"mine")
    end_of_exif = plain.index(b"Exif\0") - 2
    end_of_exif += int.from_bytes(plain[end_of_exif : end_of_exif + 2], "big")
    return plain[:end_of_exif] + b"".join(segments) + plain[end_of_exif:]


def test_jpeg_gets_xmp_and_iptc_and_keeps_the_rest() -> None:
    before = jpeg(
        segment(0xE1, image_metadata.XMP_SEGMENT + OTHERS),
        segment(0xED, image_metadata.PHOTOSHOP_SEGMENT + resources((2, 25, b"dog"), (2, 120, b"old"))),
    )
    assert image_metadata.read(before) == "old"
    after = image_metadata.write(before, TEXT)
    assert image_metadata.read(after) == TEXT
    with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(after)) as new:
        assert new.tobytes() == old.tobytes()
        assert (new.getexif(), new.info["comment"]) == (old.getexif(), b"mine")
        assert b'xmp:Rating="4"' in new.info["xmp"]
        assert b">old<" not in new.info["xmp"]
        assert xmp.read(new.info["xmp"]) == TEXT
        found = IptcImagePlugin.getiptcinfo(new)
        assert found == {(1, 90): b"\x1b%G", (2, 25): b"dog", (2, 120): TEXT.encode()}
        kept = new.info["photoshop"]
        assert set(kept) == {0x0422, 0x0404}  # The digest was of the old IPTC.
        assert kept[0x0422] == b"\0\x48odd"


def test_jpeg_without_metadata_gets_it() -> None:
    after = image_metadata.write(picture("jpeg"), TEXT)
    with Image.open(io.BytesIO(after)) as new:
        found = IptcImagePlugin.getiptcinfo(new)
    assert found == {(1, 90): b"\x1b%G", (2, 120): TEXT.encode()}
    assert xmp.read(after[after.index(b"<?xpacket") : after.index(b'end="w"?>') + 9]) == TEXT


def test_other_iptc_texts_keep_their_encoding() -> None:
    after = iptc.write(resources((2, 25, "Zoë".encode("latin-1"))), "Hund Zoë 犬")
    assert iptc.read(after) == "Hund Zoë ?"
    assert "Zoë".encode("latin-1") in after


def test_long_iptc_caption_ends_at_a_character() -> None:
    assert iptc.read(iptc.write(b"", "é" + "犬" * 1000)) == "é" + "犬" * 666  # 2,000 bytes


def test_png_gets_xmp_once_and_keeps_the_rest() -> None:
    before = picture("png") + b"after the end"
    after = image_metadata.write(image_metadata.write(before, "old"), TEXT)
    assert image_metadata.read(after) == TEXT
    assert after.count(b"XML:com.adobe.xmp") == 1
    assert after.endswith(b"after the end")
    with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(after)) as new:
        assert new.tobytes() == old.tobytes()
        assert xmp.read(new.info["xmp"]) == TEXT


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_type_is_refused(encoding: str) -> None:
    packet = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    with pytest.raises(MetadataError, match="document type"):
        xmp.read(packet.encode(encoding))


def test_file_that_is_cut_anywhere_is_read_or_refused() -> None:
    whole_jpeg = jpeg(segment(0xED, image_metadata.PHOTOSHOP_SEGMENT + resources((2, 120, b"old"))))
    for content in (whole_jpeg[:1500], image_metadata.write(picture("png"), "old")):
        for size in range(len(content)):
            with suppress(MetadataError):
                image_metadata.write(content[:size], TEXT)
    for name in range(len(OTHERS)):
        with suppress(MetadataError):
            xmp.write(OTHERS[:name], TEXT)


async def test_captions_go_into_images_and_xmp_files(
    gateway: Gateway, engine: ScriptedEngine, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(picture("jpeg"))
    (tmp_path / "b.webp").write_bytes(picture("webp"))
    (tmp_path / "c.png").write_bytes(image_metadata.write(picture("png"), "Mine."))
    (tmp_path / "c.png.xmp").write_bytes(OTHERS)
    code, errors = await run(gateway, "caption", tmp_path, "--format", "embedded", "--format", "xmp")
    assert (code, errors.splitlines()) == (
        1,
        [
            "b.webp: a description can be put into a JPEG or a PNG only; use --format xmp",
            f"{tmp_path}: 1 answered, 1 failed, 1 were there before",
        ],
    )
    assert image_metadata.read((tmp_path / "a.jpg").read_bytes()) == "A red circle."
    assert xmp.read((tmp_path / "a.jpg.xmp").read_bytes()) == "A red circle."
    assert xmp.read((tmp_path / "c.png.xmp").read_bytes()) == "old"
    assert len(engine.jobs) == 1
    await run(gateway, "caption", tmp_path, "--format", "xmp", "--overwrite")
    sidecar = (tmp_path / "c.png.xmp").read_bytes()
    assert (xmp.read(sidecar), b'xmp:Rating="4"' in sidecar) == ("A red circle.", True)
    assert image_metadata.read((tmp_path / "c.png").read_bytes()) == "Mine."
