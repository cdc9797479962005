"""`python -m tools.full_shape`: makes LLaVA-1.5-7B's shape, serves it, measures and checks it."""

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from openai import AsyncOpenAI

from tests.prompt.llama import LlamaTokenizerJS
from tests.servers import Gateway
from tools.full_shape import files, measure, room
from tools.full_shape.checks import kv_cache_tokens
from tools.full_shape.report import Found, page
from tools.full_shape.served import Plan, Served, serve
from tools.full_shape.shape import Shape

READY_WITHIN = 900.0  # seconds; 13.5 GB may come from a slow disk
ANSWER_WITHIN = 1800.0  # seconds; a full context takes minutes on a CPU
REAL = Shape()


def main(
    layers: Annotated[int, typer.Option(min=1, help="Layers of the language model.")] = REAL.layers,
    clip_layers: Annotated[int, typer.Option(min=2, help="Layers of the vision tower.")] = REAL.clip_layers,
    write: Annotated[Path | None, typer.Option(help="Page to write the report to.")] = None,
) -> None:
    """Print one report; exit with 1 where the machine is too small or a check fails."""
    plan = Plan(Shape(layers, clip_layers), "bfloat16", kv_gib=3)
    try:
        print(f"{plan.shape.parameters:,} parameters: {room.require(plan)}", flush=True)
    except room.NoRoom as error:
        print(error)
        raise typer.Exit(1) from None
    found = run(plan)
    text = page(found, command(plan.shape), datetime.now(UTC).date())
    print(text)
    if found.failed:
        raise typer.Exit(1)
    if write is not None:
        write.write_text(text)


def command(shape: Shape) -> str:
    """Return the command that measures `shape`."""
    options = "" if shape == REAL else f' ARGS="--layers {shape.layers} --clip-layers {shape.clip_layers}"'
    return f"make full-shape{options}"


def run(plan: Plan) -> Found:
    """Make, serve, measure and check; the weights lie in a temporary folder meanwhile."""
    with tempfile.TemporaryDirectory(prefix="llava-shape-") as name:
        folder = Path(name)
        llama = LlamaTokenizerJS.install(folder / "npm")
        began = time.perf_counter()
        model = folder / "model"
        model.mkdir()
        files.write(plan.shape, model, llama)
        made = time.perf_counter() - began
        print(f"made in {made:.0f} s; starting the engine", flush=True)
        began = time.perf_counter()
        with serve(plan, model, folder, READY_WITHIN) as gateway:
            ready = time.perf_counter() - began
            print(f"ready after {ready:.0f} s; measuring and checking", flush=True)
            return asyncio.run(examine(plan, gateway, made, ready))


async def examine(plan: Plan, gateway: Gateway, made: float, ready: float) -> Found:
    """Measure and check what `gateway` serves; `made` and `ready` are seconds that are over."""
    async with AsyncOpenAI(
        base_url=gateway.api, api_key="none", max_retries=0, timeout=ANSWER_WITHIN
    ) as client:
        served = Served(plan, gateway, client)
        return Found(
            plan=plan,
            made=made,
            ready=ready,
            speed=await measure.speed(served),
            kv_tokens=await kv_cache_tokens(served),
            kv_planned=plan.kv_tokens,
            checks=await measure.checked(served),
            memory=measure.memory(gateway.pid),  # after the longest prompt
        )


if __name__ == "__main__":
    typer.run(main)
