"""What `make full-shape` found, as one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from tools.bench.report import machine
from tools.full_shape.measure import Checked, Speed
from tools.full_shape.served import Plan

GB = 1_000_000_000

PAGE = """# LLaVA-1.5-7B's shape on a CPU

LLaVA-1.5-7B as the hub has it, with random weights: {parameters:,} parameters ({layers} layers of Vicuna,
{clip_layers} of CLIP), the real Llama tokenizer, {dtype}, {kv_gib} GiB of KV cache, behind the gateway on the
real engine. Its answers mean nothing; its speed and memory are the real model's.

This page was written on {day} by `{command}`: {machine}.

| | |
| --- | --- |
{figures}

What was checked on it:

| | seconds | |
| --- | --- | --- |
{checks}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that one run measured; times in seconds, memory in bytes."""

    plan: Plan
    made: float
    ready: float
    speed: Speed
    kv_tokens: int  # as vLLM reports them
    kv_planned: int
    memory: Mapping[str, int]
    checks: Sequence[Checked]

    @property
    def failed(self) -> bool:
        return any(check.failure for check in self.checks)


def page(found: Found, command: str, day: date) -> str:
    """Return the page in Markdown; `command` is what wrote it."""
    shape = found.plan.shape
    here = machine()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    return PAGE.format(
        command=command,
        parameters=shape.parameters,
        layers=shape.layers,
        clip_layers=shape.clip_layers,
        dtype=found.plan.dtype,
        kv_gib=found.plan.kv_gib,
        day=day,
        machine=f"{here['cpu']}, {here['cores']} cores ({versions})",
        figures="\n".join(f"| {name} | {value} |" for name, value in _figures(found).items()),
        checks="\n".join(
            f"| {check.promise} | {check.seconds:.0f} | {check.failure or 'passed'} |"
            for check in found.checks
        ),
    )


def _figures(found: Found) -> dict[str, str]:
    weights = found.plan.shape.parameters * 2
    total = sum(found.memory.values())
    parts = ", ".join(f"{name} {size / GB:.1f}" for name, size in found.memory.items())
    return {
        "weights made and written": f"{weights / GB:.1f} GB in {found.made:.0f} s",
        "from the command to ready": f"{found.ready:.0f} s",
        f"first token of a {found.speed.prompt_tokens}-token prompt with one image": (
            f"{found.speed.first_token:.1f} s"
        ),
        "tokens per second after it": f"{found.speed.tokens_per_second:.2f}",
        "KV cache, as vLLM reports it": f"{found.kv_tokens} tokens; planned: {found.kv_planned}",
        "memory": f"{total / GB:.1f} GB ({parts})",
    }
