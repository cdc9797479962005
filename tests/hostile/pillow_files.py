"""Each of Pillow's own test files is answered, or refused with a clear error; run by `make hostile`.

They are in Pillow's source archive, which pip fetches once into pytest's cache, in the installed version.
"""

import importlib.metadata
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.hostile.cases import of_picture, outcome, posted, serves
from tests.images.test_damaged import REFUSED
from tests.servers import Gateway

FEWEST = 900  # files; Pillow 13.0 has over a thousand
SLOWEST = 10.0  # seconds
READ_OR_REFUSED = {(200, None), *((400, code) for code in REFUSED)}
GROUP = 50  # files between two honest requests


def _fetch(folder: Path) -> Path:
    """Return Pillow's source archive, fetched into `folder` unless it is there."""
    version = importlib.metadata.version("pillow")
    archive = folder / f"pillow-{version}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "pillow"]
        done = subprocess.run(
            [*pip, "--dest", str(folder), f"pillow=={version}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if not archive.exists():
            pytest.skip(f"Pillow's sources could not be fetched by pip: {done.stderr.strip()[-300:]}")
    return archive


@pytest.fixture
def files(pytestconfig: pytest.Config) -> list[tuple[str, bytes]]:
    cache = pytestconfig.cache
    assert cache is not None
    found = []
    with tarfile.open(_fetch(cache.mkdir("pillow-sources"))) as archive:
        for member in archive:
            if "/Tests/" in member.name and "images" in member.name and member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                found.append((member.name, content.read()))
    assert len(found) >= FEWEST
    return found


@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:Invalid APNG")  # Pillow says so and reads the first picture.
async def test_each_of_pillows_files_is_answered_or_refused(
    attacked: Gateway, files: list[tuple[str, bytes]]
) -> None:
    wrong, outcomes = [], dict.fromkeys(READ_OR_REFUSED, 0)
    for number, (name, data) in enumerate(files):
        began = time.monotonic()
        answer = await posted(attacked, of_picture(name, data, "").made, 60)
        seconds = time.monotonic() - began
        found = outcome(answer)
        if found not in READ_OR_REFUSED or seconds > SLOWEST:
            wrong.append((name, found, round(seconds, 1)))
        else:
            outcomes[found] += 1
        if number % GROUP == 0:
            await serves(attacked)
    await serves(attacked)
    print(f"{len(files)} files:", outcomes)
    assert wrong == []
