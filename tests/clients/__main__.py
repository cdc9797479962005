"""Runs the matrix: each client in an environment of its own, against one gateway on the real engine.

    python -m tests.clients [NAME …] [--write]

Environments are made below .clients/ and kept. `--write` puts the table into docs/clients.md.
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.access.keys import hashed
from tests.clients.catalogue import CASES, CLIENTS, Client
from tests.debian import require
from tests.scripted_engine import ScriptedEngine
from tests.servers import Gateway, served_gateway, supervised_gateway
from tests.shapes import data_url

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".clients"
PROGRAMS = Path(__file__).with_name("programs")
PAGE = ROOT / "docs/clients.md"
KEY = "sk-matrix"
LIMIT = 300  # seconds for a client's program

NOTES = "¹²³⁴⁵⁶⁷⁸⁹"
IMPOSSIBLE = [(client, case) for client in CLIENTS for case in client.cannot]

Results = dict[str, str]  # case → "yes", or why it failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(client.name for client in CLIENTS))
    parser.add_argument("--write", action="store_true", help="write the table into docs/clients.md")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {client.name for client in CLIENTS}
    if unknown:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    chosen = [client for client in CLIENTS if not arguments.names or client.name in arguments.names]
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
    sys.exit(any(told != "yes" for cases in results.values() for told in cases.values()))


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
    return ENVIRONMENTS / re.sub(r"[^a-z0-9]+", "-", client.name.lower())


def install(client: Client) -> None:
    """Make the client's environment, unless it is there with just these packages."""
    folder = home(client)
    stamp = folder / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text()) == list(client.packages):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if client.kind == "python":
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *client.packages], check=True, timeout=500)
    else:
        npm = [require("npm"), "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run([*npm, "--prefix", str(folder), *client.packages], check=True, timeout=500)
    stamp.write_text(json.dumps(list(client.packages)))


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
    print(f"{client.name}: {results}", flush=True)
    return results


def table(results: dict[str, Results]) -> str:
    lines = ["| client | " + " | ".join(CASES) + " |", "| --- |" + " --- |" * len(CASES)]
    for client in CLIENTS:
        if (cases := results.get(client.name)) is not None:
            cells = [_cell(client, case, cases.get(case)) for case in CASES]
            lines.append(f"| {client.name} (`{client.packages[0]}`) | " + " | ".join(cells) + " |")
    notes = [
        f"{NOTES[place]} {client.name}, {case}: {client.cannot[case]}"
        for place, (client, case) in enumerate(IMPOSSIBLE)
        if client.name in results
    ]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _cell(client: Client, case: str, told: str | None) -> str:
    if told is None and case in client.cannot:
        return f"–{NOTES[IMPOSSIBLE.index((client, case))]}"
    return "" if told is None else "yes" if told == "yes" else "**no**"


def write(results: dict[str, Results]) -> None:
    """Replace the table between the page's marks, and note the day."""
    today = dt.datetime.now(dt.UTC).date()
    failures = [
        f"- {name}, {case}: {why}"
        for name, cases in results.items()
        for case, why in cases.items()
        if why != "yes"
    ]
    told = f"Run on {today}, Python {sys.version.split()[0]}.\n\n{table(results)}" + (
        "\n" + "\n".join(failures) + "\n" if failures else ""
    )
    page = PAGE.read_text()
    PAGE.write_text(
        re.sub(
            r"(<!-- matrix -->\n).*?(<!-- /matrix -->)",
            lambda found: found[1] + told + found[2],
            page,
            flags=re.DOTALL,
        )
    )


if __name__ == "__main__":
    main()
