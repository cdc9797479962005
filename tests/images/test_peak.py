"""A picture takes no more memory while it is decoded than its permit is for."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.each import each
from tests.images.test_heic import heic

pytestmark = pytest.mark.slow

TURNED = Image.Exif()
TURNED[0x0112] = 6
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {},
    "PNG": {},
    "WEBP": {"lossless": True, "method": 0},
    "AVIF": {"speed": 10, "subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_lzw", "strip_size": 2**30},
}

MODES = {
    "JPEG": ("RGB", "L"),
    "PNG": ("RGB", "RGBA", "L", "P", "1", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "TIFF": ("RGB", "RGBA", "L", "1", "P", "CMYK", "I;16"),
}
HEIC_MODES = ("RGB", "RGBA", "L")


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """Return by format and mode what 4 megapixels may take and what they took, in bytes."""
    folder = tmp_path_factory.mktemp("pictures")
    for format_, options in FORMATS.items():
        for mode in MODES[format_]:
            picture = Image.new(mode, (2000, 2000))
            picture.save(folder / f"{format_}-{mode}", format_, exif=TURNED, **options)
    noise = Image.effect_noise((2000, 2000), 20)
    for mode in ("RGB", "L"):
        noise.convert(mode).save(folder / f"progressive-{mode}", "JPEG", progressive=True, subsampling=0)
    smooth = Image.effect_noise((125, 125), 20).resize((2000, 2000))
    fast = {"preset": "ultrafast"}  # HEIC's encoder would take 17 s of noise, and 4 s of this picture
    for mode in HEIC_MODES:
        picture = smooth.convert(mode)
        (folder / f"HEIC-{mode}").write_bytes(heic(picture, exif=TURNED, quality=50, enc_params=fast))
    # What is freed goes back at once, so that each picture's peak is its own.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-m", "tests.images.peak", *map(str, sorted(folder.iterdir()))]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    lines = [line.split() for line in told.splitlines()]
    return {Path(name).name: (int(allowed), int(taken)) for name, allowed, taken in lines}


@each(
    "name",
    [
        f"{format_}-{mode}"
        for format_, modes in {**MODES, "HEIC": HEIC_MODES, "progressive": ("RGB", "L")}.items()
        for mode in modes
    ],
)
def test_decoding_takes_no_more_than_its_permit(peaks: dict[str, tuple[int, int]], name: str) -> None:
    allowed, taken = peaks[name]
    assert 4_000_000 < taken <= allowed, f"{taken / 4e6:.1f} bytes a pixel, {allowed / 4e6:.1f} allowed"
