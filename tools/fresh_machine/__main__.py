"""Tries the README's two commands on new Debian machines, as root and as others.

    make fresh-machine
    make fresh-machine ARGS="--suite bookworm --no-tests --write"

It needs root, debootstrap, 15 GB and, with the tests, hours. The machines are made in a temporary folder
(TMPDIR) and removed at the end; the logs stay.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.fresh_machine import commands, page
from tools.fresh_machine.commands import Outcome
from tools.fresh_machine.machine import NAMELESS, PERSON, ROOT, Machine, User, missing_programs

REPOSITORY = Path(__file__).parents[2]
# Root comes last: its set-up installs packages for everybody.
USERS = {"person": PERSON, "nameless": NAMELESS, "root": ROOT}


def outcomes(machine: Machine, users: list[User], logs: Path, *, tests: bool) -> Iterator[Outcome]:
    """Make the machine and yield what became of each command on it."""
    machine.make(REPOSITORY, logs / f"{machine.suite}-debootstrap.log")
    for user in users:
        log = logs / f"{machine.suite}-{user.uid}.log"
        checkout = machine.clone(user, log)
        yield commands.serve(machine, user, checkout, log)
        if tests and user is not NAMELESS:
            yield commands.test(machine, user, checkout, log.with_suffix(".tests.log"))
        if user is ROOT:  # It has python3-venv by now.
            yield commands.wheel(machine, user, checkout, log.with_suffix(".wheel.log"))
            if machine.suite == "bookworm":  # the Debian of the image's base
                yield commands.container(machine, checkout, log.with_suffix(".image.log"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fresh-machine", description=__doc__.splitlines()[0])
    parser.add_argument("--suite", action="append", help="bookworm or trixie; default: both")
    parser.add_argument("--user", action="append", choices=USERS, help="default: all")
    parser.add_argument("--no-tests", action="store_true", help="leave out `make test`")
    parser.add_argument("--write", action="store_true", help="write docs/reports/fresh-machine.md")
    arguments = parser.parse_args()
    # A shell starts what it runs in the background without SIGINT, which the gateway is to be stopped with.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # after removing the machine
    if problem := missing_programs():
        sys.exit(problem)
    logs = Path(tempfile.mkdtemp(prefix="fresh-machine-logs-"))
    print("logs:", logs, flush=True)
    done: list[Outcome] = []
    commit = page.head()
    for suite in arguments.suite or ["bookworm", "trixie"]:
        machine = Machine(Path(tempfile.mkdtemp(prefix=f"fresh-machine-{suite}-")), suite)
        machine.folder.chmod(0o755)  # Other users must get in.
        try:
            users = [user for name, user in USERS.items() if name in (arguments.user or USERS)]
            for outcome in outcomes(machine, users, logs, tests=not arguments.no_tests):
                print(page.row(outcome), end="", flush=True)
                done.append(outcome)
                if arguments.write:
                    page.write(done, commit)  # what there is so far: it takes hours
        finally:
            machine.remove()
    return any(outcome.problem for outcome in done)


if __name__ == "__main__":
    sys.exit(main())
