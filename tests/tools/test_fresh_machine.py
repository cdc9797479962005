"""`make fresh-machine`: what it passes on, how it enters and removes a machine, and what it reports."""

import datetime as dt
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.snippets import shell
from tools.fresh_machine import commands, first_requests, image, page, pip_settings
from tools.fresh_machine.commands import Outcome
from tools.fresh_machine.first_requests import Timing
from tools.fresh_machine.machine import NAMELESS, PERSON, Machine

LISTED = """\
:env:.find-links='/env'
global.find-links='/file'
install.extra-index-url='https://a.example/simple\\nfile://{folder}/simple'
global.cert='{file}'
"""


def test_pips_settings_are_passed_on_with_the_files_that_they_name(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    settings = pip_settings.parse(LISTED.format(folder=tmp_path, file=file))
    assert settings == {
        "PIP_FIND_LINKS": "/env",
        "PIP_EXTRA_INDEX_URL": f"https://a.example/simple\nfile://{tmp_path}/simple",
        "PIP_CERT": str(file),
    }
    assert pip_settings.local_paths(settings) == [tmp_path, file]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(pip_settings, "variables", lambda: {"PIP_FIND_LINKS": str(tmp_path / "wheels")})
    (tmp_path / "wheels").mkdir()
    return Machine(tmp_path / "new machine", "bookworm")


def test_what_a_machine_sees_is_mounted_in_a_namespace_of_its_own_and_read_only(
    machine: Machine, tmp_path: Path
) -> None:
    line = machine.command(PERSON, "make serve")
    assert line[:5] == ["unshare", "--mount", "--propagation", "private", "--pid"]
    assert line[-2] == "-ec"  # A mount that fails ends it.
    *mounts, last = line[-1].splitlines()
    wheels = tmp_path / "wheels"
    assert mounts[-1] == f"mount --bind -o ro {wheels} '{machine.folder}{wheels}'"
    assert last == f"chroot --userspec=1000:1000 --groups= '{machine.folder}' sh -c 'make serve' || exit $?"


def test_an_id_without_a_name_has_no_home(machine: Machine) -> None:
    assert machine.command(NAMELESS, "true")[-1].endswith("new machine' env -u HOME sh -c true || exit $?")


def test_a_folder_in_which_something_is_mounted_is_not_removed(
    monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    def run(*_: Any, **__: Any) -> None:
        pytest.fail("it removes")

    monkeypatch.setattr(subprocess, "run", run)
    machine.folder = Path("/")
    with pytest.raises(
        RuntimeError, match=r"^/ is not removed, because something is mounted in it: .*'/proc'"
    ):
        machine.remove()


def test_a_folder_is_removed(machine: Machine) -> None:
    (machine.folder / "etc").mkdir(parents=True)
    machine.remove()
    assert not machine.folder.exists()


def test_the_first_requests_are_of_every_kind_and_begin_with_the_shortest_and_the_playgrounds() -> None:
    kinds = first_requests.kinds()
    assert list(kinds)[:2] == ["two tokens", "logprobs"]
    assert {"picture", "json_schema", "tool_choice", "echo", "responses"} <= kinds.keys()
    assert kinds["logprobs"][1]["logprobs"] is True


def serve(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, timings: list[Timing]) -> Outcome:
    """Return what becomes of `command`, a program of Python, as `make serve`."""

    class Here(Machine):
        def command(self, _user: Any, command: str) -> list[str]:
            return [sys.executable, "-c", command]

    monkeypatch.setattr(commands, "sweep", lambda _api: timings)
    monkeypatch.setattr(pip_settings, "variables", dict)
    log = folder / "log"
    return commands._served(Here(folder, "bookworm"), PERSON, "make serve", command, log)


READY = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
try:
    http.server.HTTPServer(("127.0.0.1", {port}), Ready).serve_forever()
except KeyboardInterrupt:
    sys.exit()
"""


def test_a_first_request_that_is_late_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timings = [Timing("logprobs", 15.0, 0.03), Timing("text", 0.9, 0.1)]
    assert serve(READY, tmp_path, monkeypatch, timings).problem == "slow as a first request: logprobs"
    assert serve(READY, tmp_path, monkeypatch, timings[1:]).problem == ""


def test_a_command_that_does_not_end_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "STOP", 0.3)
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + READY
    assert serve(deaf, tmp_path, monkeypatch, []).problem == "still runs 0 s after Ctrl-C"


def test_a_command_that_ends_early_is_reported_with_its_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys; print('noise'); sys.exit('set-up: no disk')"
    outcome = serve(program, tmp_path, monkeypatch, [])
    assert (outcome.problem, outcome.summary) == ("ended with exit code 1", "set-up: no disk")


def test_the_page_has_a_row_for_each_command_with_the_kind_that_differs_most() -> None:
    timings = [Timing("text", 0.9, 0.1), Timing("logprobs", 0.06, 0.03)]
    served = Outcome("bookworm", "root", "make serve", seconds=61.2, timings=timings)
    tested = Outcome("trixie", "root", "make test", "exit code 2", 9.0, summary="1 failed, 2 passed in 9 s")
    written = page.text([served, tested], "abc1234", dt.date(2026, 12, 1))
    assert "wrote this page on 2026-12-01 for commit `abc1234`" in written
    assert written.endswith(
        "| Debian 12 | root | `make serve` | works | 61 s | 2 | `text`: 0.90 s, 0.10 s |\n"
        "| Debian 13 | root | `make test` | exit code 2: 1 failed, 2 passed in 9 s | 9 s |  |  |\n"
    )


def test_the_page_is_what_the_program_writes() -> None:
    written = page.PAGE.read_text()
    date, commit = re.search(r"wrote this page on (\S+) for commit `(\w+)`", written).groups()  # type: ignore[union-attr]
    head = page.text([], commit, dt.date.fromisoformat(date))
    assert written.startswith(head)
    rows = written.removeprefix(head).splitlines()
    assert "| Debian 12 | a user without sudo | `make serve` | works |" in rows[0]


def test_the_wheel_is_installed_as_the_readme_says() -> None:
    lines = commands.WHEEL.strip().splitlines()
    readme = (commands.REPOSITORY / "README.md").read_text()
    *install, serve = shell(readme, "python3 -m venv ").splitlines()
    assert lines[-len(install) - 1 :] == [*install, f"exec {serve}"]


DOCKERFILE = """\
# A comment
FROM python:3.12-slim-bookworm AS runtime
ENV A=1 \\
    B=$PATH
WORKDIR /app
CMD ["llava-gateway", "serve"]

FROM runtime AS builder
COPY a.toml b ./
RUN --mount=type=cache,target=/cache pip install && \\
    true

FROM runtime AS gpu
RUN nobody

FROM runtime AS cpu
COPY --from=builder /app/.venv .venv
COPY folder folder
USER 10001:10001
"""


def test_an_image_is_built_from_its_stages_and_those_it_copies_from_each_once(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(DOCKERFILE)
    script = image.build_script(file, "cpu", "/srv/clone")
    lines = script.splitlines()
    copies = [line for line in lines if line.startswith("copy /srv/clone/")]
    assert [line.split()[-1] for line in copies] == ["./", "./", "folder"]
    assert [line for line in lines if line.startswith("( ")] == ["( pip install && true )"]
    assert lines.count("export A=1 B=$PATH") == 1
    assert image.user(file, "cpu") == 10001
    started = image.start_script(file, "cpu", {"GATEWAY_PORT": "1"}).splitlines()
    assert started[-2:] == ["export GATEWAY_PORT=1", "exec llava-gateway serve"]


def test_what_an_image_copies_arrives_as_docker_would_put_it(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM x AS cpu\nWORKDIR {tmp_path}/app\nCOPY a.toml b ./\nCOPY folder folder\n")
    for name in ("a.toml", "b", "folder/c"):
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clone" / name).write_text(name)
    script = image.build_script(file, "cpu", str(tmp_path / "clone")).replace(image.BASE.strip(), "")
    subprocess.run(["sh", "-c", script], check=True, timeout=60)
    app = tmp_path / "app"
    found = {str(path.relative_to(app)) for path in app.rglob("*") if path.is_file()}
    assert found == {"a.toml", "b", "folder/c"}
