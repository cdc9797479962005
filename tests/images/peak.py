"""Decode each file named, and print for each the bytes allowed and the bytes taken at most."""

import re
import sys
from pathlib import Path

from gateway.images.decode import decode
from gateway.images.header import memory_for, open_image


def status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    for name in sys.argv[1:]:
        data = Path(name).read_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        before = status("VmRSS")
        image = open_image(data, max_pixels=10**8)
        allowed = memory_for(image, 1)
        rendition = decode(image, shrink=1)
        print(name, allowed, status("VmHWM") - before)
        del image, rendition


if __name__ == "__main__":
    main()
