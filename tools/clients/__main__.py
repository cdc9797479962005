"""Runs the matrix: each client in an environment of its own, against one gateway on the real engine.

    python -m tools.clients [NAME …] [--write]

Environments are made below .clients/ and kept. `--write` puts the tables into docs/clients.md and README.md.
"""

import argparse
import asyncio
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.access.keys import hashed
from tests import environments
from tests.debian import require
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, free_port, served_gateway, supervised_gateway
from tests.shapes import data_url
from tools.clients.catalogue import CLIENTS, Client
from tools.clients.page import Results, failed, table, write
from tools.clients.snippets import try_snippet

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".clients"
PROGRAMS = Path(__file__).with_name("programs")
KEY = "sk-matrix"
LIMIT = 300  # seconds for a client's program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(client.name for client in CLIENTS))
    parser.add_argument("--write", action="store_true", help="write the tables, after a run of all clients")
    arguments = parser.parse_args()
    if arguments.write and arguments.names:
        parser.error(f"--write needs a run of all clients; got {', '.join(arguments.names)}")
    try:
        chosen = find(arguments.names)
    except LookupError as error:
        parser.error(str(error))
    for client in chosen:
        print(f"installing {client.name}", flush=True)
        install(client)
    with (
        tempfile.TemporaryDirectory() as folder,
        served_gateway(
            Path(folder), profile="demo", api_keys=KEY, keys_file=str(limited_keys(Path(folder)))
        ) as gateway,
        starting_gateway() as away,
    ):
        results = {client.name: show(client, gateway, away) for client in chosen}
    print("\n" + table(results))
    if arguments.write:
        write(results)
    sys.exit(any(failed(client, results[client.name]) for client in chosen))


def find(names: Sequence[str]) -> Sequence[Client]:
    """Return the clients of these names, all where there are none. Raises LookupError.

    A name may also be written as its environment's folder is: `openai-javascript`.
    """
    known = {home(client).name: client for client in CLIENTS}
    if unknown := [name for name in names if slug(name) not in known]:
        there = ", ".join(repr(client.name) for client in CLIENTS)
        raise LookupError(f"no such client: {', '.join(map(repr, unknown))}; there are {there}")
    return [known[slug(name)] for name in names] or CLIENTS


def limited_keys(folder: Path) -> Path:
    """Write a keys file with a key for each client that may ask once a minute."""
    keys = (
        f'[keys.{home(client).name}]\nhash = "{hashed(limited_key(client))}"\nclass = "slow"\n'
        for client in CLIENTS
    )
    path = folder / "keys.toml"
    path.write_text("[classes.slow]\nrequests_per_minute = 1\n" + "".join(keys))
    return path


def limited_key(client: Client) -> str:
    return f"sk-limited-{home(client).name}"


@contextmanager
def starting_gateway() -> Iterator[str]:
    """Run a gateway whose engine never becomes ready, and yield its API's address: requests get 503."""
    address: queue.Queue[str] = queue.Queue()
    stop = threading.Event()

    async def serve() -> None:
        async with supervised_gateway(lambda _: ScriptedEngine(), lambda _: None) as gateway:
            address.put(gateway.api)
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        yield address.get(timeout=30)
    finally:
        stop.set()
        thread.join(30)


def home(client: Client) -> Path:
    return ENVIRONMENTS / slug(client.name)


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def install(client: Client) -> None:
    """Make the client's environment, unless it is there with just these packages."""
    make = environments.python if client.kind == "python" else environments.node
    make(home(client), *client.packages)


def show(client: Client, gateway: Gateway, away: str = "") -> Results:
    """Run the client's program, and return what became of each of its cases."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home(client)),
        "BASE_URL": gateway.api,
        "MODEL": "llava-demo",
        "API_KEY": KEY,
        "OPENAI_API_KEY": KEY,  # some clients insist on one being there
        "LIMITED_KEY": limited_key(client),
        "AWAY_URL": away,
        "STAR": data_url("star", "red"),
        "CIRCLE": data_url("circle", "blue"),
        "DO_NOT_TRACK": "1",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    if client.kind == "python":
        command = [str(home(client) / "bin/python"), str(PROGRAMS / client.program)]
    else:
        # JavaScript looks for packages beside the program.
        for source in PROGRAMS.glob("*.mjs"):
            shutil.copy(source, home(client))
        command = [require("node", "nodejs"), str(home(client) / client.program)]
    log = home(client) / "output.log"
    with log.open("w") as file:
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]
    results = {one["case"]: "yes" if one["ok"] else one["why"] for one in told}
    if not results:
        results = {"whole": f"the program failed: {log.read_text()[-200:]!r}"}
    if results.get("whole") == "yes":
        del environment["OPENAI_API_KEY"]  # the snippet names its key
        real = {"http://127.0.0.1:8000/v1": gateway.api, '"none"': f'"{KEY}"', "4000": str(free_port())}
        results["whole"] = try_snippet(client, home(client), environment, real)
    print(f"{client.name}: {results}", flush=True)
    return results


if __name__ == "__main__":
    main()
