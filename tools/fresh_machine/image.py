"""deploy/Dockerfile as shell scripts, to run in a machine of the Debian that its base image is made of.

They stand in for a build where there is no container engine. Debian's own Python takes the place of the
base image's.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_BODY = re.MULTILINE | re.DOTALL
# What the base image has and a smallest Debian has not.
BASE = """
apt-get -qq update && apt-get -qq -y install python3-venv
ln -s /usr/bin/python3 /usr/local/bin/python
"""
# Docker copies what is in a folder, and makes the folders that it copies into.
COPY = """\
copy() {
    if [ -d "$1" ]; then mkdir -p "$2" && cp -r "$1/." "$2"
    else mkdir -p "$(dirname "$2x")" && cp "$1" "$2"; fi
}"""


def build_script(dockerfile: Path, target: str, context: str) -> str:
    """Return what building `target` runs, as root. `context` is the folder to copy from."""
    lines = ["set -e", BASE.strip(), COPY]
    for instruction, text in _steps(dockerfile, target):
        if instruction == "RUN":
            lines.append(f"( {re.sub(r'^--mount=[^ ]+ ', '', text)} )")
        elif instruction == "COPY" and not text.startswith("--from="):
            *sources, place = text.split()
            lines += [f"copy {context}/{source} {place}" for source in sources]
        elif environment := _environment(instruction, text):
            lines.append(environment)
    return "\n".join(lines)


def start_script(dockerfile: Path, target: str, settings: dict[str, str]) -> str:
    """Return what a container of `target` runs, as the user that the Dockerfile names."""
    steps = list(_steps(dockerfile, target))
    lines = ["set -e", *(line for step in steps if (line := _environment(*step)))]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    (command,) = (text for instruction, text in steps if instruction == "CMD")
    return "\n".join([*lines, f"exec {shlex.join(json.loads(command))}"])


def user(dockerfile: Path, target: str) -> int:
    """Return the user id of a container."""
    (text,) = (text for instruction, text in _steps(dockerfile, target) if instruction == "USER")
    return int(text.partition(":")[0])


def _environment(instruction: str, text: str) -> str | None:
    if instruction == "ENV":
        return f"export {text}"
    return f"mkdir -p {text} 2>/dev/null || true; cd {text}" if instruction == "WORKDIR" else None


def _steps(dockerfile: Path, target: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction that `target` needs once: its bases', those of what it copies from, its own."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE))
    stages = {
        name: (base, re.findall(r"^([A-Z]+) (.*)$", body, re.MULTILINE))
        for base, name, body in re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text, _BODY)
    }
    seen: set[str] = set()

    def of(name: str) -> Iterator[tuple[str, str]]:
        if name not in stages or name in seen:
            return
        seen.add(name)
        base, steps = stages[name]
        yield from of(base)
        for instruction, step in steps:
            if copied := re.match(r"--from=(\S+)", step):
                yield from of(copied[1])
            yield instruction, step

    return of(target)
