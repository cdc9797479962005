"""What a phone's large JPEGs cost to decode for the model: CPU seconds, memory taken, and the memory allowed.

python -m tools.bench.phones
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from gateway.images.decode import decode
from gateway.images.header import memory_for, open_image
from gateway.images.square import shrink_factor, square
from tests.images.peak import status
from tests.images.pictures import noisy

SIDE, MB = 336, 2**20
SIZES = {"12": (4000, 3000), "108": (12_000, 9_000), "200": (16_320, 12_240)}


def measure(file: Path, *, in_full: bool) -> str:
    Image.MAX_IMAGE_PIXELS = None
    data = file.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, began = status("VmRSS"), time.thread_time()
    image = open_image(data, max_pixels=10**9)
    shrink = 1 if in_full else shrink_factor(image.size, "pad", SIDE)
    allowed = memory_for(image, shrink)
    rendition = decode(image, shrink=shrink)
    square(rendition, "pad", SIDE)
    seconds = time.thread_time() - began
    taken = (status("VmHWM") - before) // MB
    return f"{seconds:5.2f} s at 1/{rendition.factor}, {taken} MB of {allowed // MB} allowed"


def main() -> None:
    if len(sys.argv) > 1:
        file = Path(sys.argv[1])
        for in_full in (False, True) if file.stem.startswith("12 ") else (False,):
            print(f"{file.stem:>16}: {measure(file, in_full=in_full)}")
        return
    tile = noisy(4000, 3000)
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            photograph = Image.new("RGB", size)
            for left in range(0, size[0], tile.width):
                for top in range(0, size[1], tile.height):
                    photograph.paste(tile, (left, top))
            for kind in ("baseline", "progressive"):
                file = Path(folder) / f"{name} {kind}.jpeg"
                photograph.save(file, quality=85, progressive=kind == "progressive")
                command = [sys.executable, "-m", "tools.bench.phones", str(file)]
                subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
