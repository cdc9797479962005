"""A long chat: what the k-th turn costs when each turn brings another image and all are sent again.

`make bench ARGS=--turns`. The images have 1600 x 1200 pixels. Both servers allow as many as there are turns.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import orjson
import pybase64
import uvloop
from rich.console import Console
from rich.table import Table

from engine_config import profile as profiles
from tools.bench import figures, processes, report, servers
from tools.bench.connection import Pool
from tools.bench.pictures import photograph_jpeg
from tools.bench.workloads import HEAD, SHORT

TURNS, QUICK_TURNS = 20, 5
CHATS, QUICK_CHATS = 5, 1  # measured, after one to warm up
SIZE = 1600, 1200
FIRST = 3  # turns at each end that `growth` compares


@dataclass(frozen=True, slots=True)
class Turn:
    """The k-th turn: median time, and mean CPU time of the server's process and of the engine, in ms."""

    number: int
    ms: float
    server_cpu_ms: float
    engine_cpu_ms: float


def chat(model: str, name: str, turns: int, size: tuple[int, int] = SIZE) -> list[bytes]:
    """Return the requests of a chat; the k-th has k images, and the answers so far."""
    messages: list[dict[str, Any]] = []
    requests = []
    fixed = {"max_tokens": SHORT, "min_tokens": SHORT, "ignore_eos": True, "temperature": 0}
    for number in range(1, turns + 1):
        data = photograph_jpeg(f"{name} {number}", *size).data
        url = f"data:image/jpeg;base64,{pybase64.b64encode(data).decode()}"
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": f"What is in picture {number}?"},
        ]
        messages.append({"role": "user", "content": parts})
        body = orjson.dumps({"model": model, "messages": messages} | fixed)
        requests.append(HEAD.format(len(body)).encode() + body)
        messages.append({"role": "assistant", "content": "A circle."})
    return requests


async def hold(port: int, group: int, requests: Sequence[bytes]) -> list[tuple[float, dict[str, float]]]:
    """Hold one chat; return the seconds of each turn, and the CPU seconds of each process by name.

    Raises ValueError if a turn is not answered.
    """
    pool = Pool(port)
    taken = []
    for request in requests:
        with processes.use(group) as used:
            exchange = await pool.ask(request)
        figures.read(exchange)
        taken.append((exchange.ended - exchange.sent, used.seconds))
    pool.close()
    return taken


def by_turn(chats: Sequence[Sequence[tuple[float, dict[str, float]]]]) -> list[Turn]:
    """Return the turns over all `chats`, which have equally many."""
    found = []
    for number, taken in enumerate(zip(*chats, strict=True), 1):
        server, engine = (
            1000 * fmean(cpu.get(name, 0.0) for _, cpu in taken) for name in ("server", "engine core")
        )
        found.append(Turn(number, 1000 * median(seconds for seconds, _ in taken), server, engine))
    return found


def growth(turns: Sequence[Turn]) -> float:
    """Return how many times as long as the first turns the last ones take."""
    return fmean(turn.ms for turn in turns[-FIRST:]) / fmean(turn.ms for turn in turns[:FIRST])


def run(profile: str, folder: Path, console: Console, *, quick: bool) -> dict[str, list[Turn]]:
    """Hold the same chats with both servers, and write turns.json to `folder`."""
    turns, chats = (QUICK_TURNS, QUICK_CHATS) if quick else (TURNS, CHATS)
    model = profiles.load(profile).served_name
    found = {}
    for name in servers.NAMES:
        with servers.running(name, profile, folder / f"{name}.log", turns) as server:
            held = []
            for number in range(chats + 1):
                requests = chat(model, f"chat {number}", turns)
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    held.append(runner.run(hold(server.port, server.pid, requests)))
            found[name] = by_turn(held[1:])
            console.print(f"{name}: the last turns take {growth(found[name]):.2f} × the first")
    sides = {name: [asdict(turn) for turn in measured] for name, measured in found.items()}
    written = {"machine": report.machine(), "chats": chats, "turns": sides}
    (folder / "turns.json").write_text(json.dumps(written, indent=1) + "\n")
    return found


def show(found: dict[str, list[Turn]], console: Console) -> None:
    """Print each turn of both servers."""
    table = Table(title=f"The k-th turn of a chat, with k images of {SIZE[0]} x {SIZE[1]}; ms")
    for column in ("k", "ours", "vLLM's", "ratio", "CPU ours: server, engine", "CPU vLLM's"):
        table.add_column(column, justify="right")
    for ours, theirs in zip(found["ours"], found["vllm"], strict=True):
        table.add_row(
            f"{ours.number}",
            f"{ours.ms:.0f}",
            f"{theirs.ms:.0f}",
            f"{theirs.ms / ours.ms:.2f}",
            f"{ours.server_cpu_ms:.0f}, {ours.engine_cpu_ms:.0f}",
            f"{theirs.server_cpu_ms:.0f}, {theirs.engine_cpu_ms:.0f}",
        )
    console.print(table)
    for name, turns in found.items():
        console.print(f"{name}: the last {FIRST} turns take {growth(turns):.2f} × the first {FIRST}")
