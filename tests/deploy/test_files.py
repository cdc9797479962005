"""The files in deploy/ are what their tools take them for, and name only what the gateway has."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from engine_config import profile
from gateway.access.memory_budgets import peak_bytes
from gateway.settings import PREFIX, Settings
from gateway.telemetry.metrics import Metrics
from tests.debian import require

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = Path(sys.executable).parent
COMPOSE = ("compose.yaml", "compose.gpu.yaml")


def run(*command: str | Path, stdin: bytes = b"") -> None:
    """Expect `command` to have nothing to say against its input."""
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def settings_in(name: str) -> dict[str, str]:
    """Return the settings that a file in deploy/ gives a value, by their names in lower case."""
    found = re.findall(rf"\b{PREFIX}(\w+)[:=] ?(\S+)", (DEPLOY / name).read_text())
    return {setting.lower(): value.strip('"') for setting, value in found}


def stage(target: str) -> str:
    """Return the instructions of one stage of the Dockerfile."""
    found = re.search(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM |\Z)", dockerfile(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def test_hadolint_has_nothing_to_say() -> None:
    run(TOOLS / "hadolint", "deploy/Dockerfile")


def test_hadolint_has_nothing_to_say_against_the_space(tmp_path: Path) -> None:
    whole = tmp_path / "Dockerfile"
    whole.write_text(dockerfile() + (DEPLOY / "spaces/stage.Dockerfile").read_text())
    run(TOOLS / "hadolint", whole)


def test_the_space_listens_where_its_card_says_and_stores_nothing() -> None:
    given = settings_in("spaces/stage.Dockerfile")
    card = yaml.safe_load((DEPLOY / "spaces/README.md").read_text().split("---")[1])
    assert (card["sdk"], card["app_port"]) == ("docker", int(given["port"]))
    assert given["playground"] == "share"
    assert given["profile"] in profile.names()


def test_every_rule_that_is_ignored_has_its_reason() -> None:
    ignored = re.findall(r"^# hadolint ignore=.*$", dockerfile(), re.MULTILINE)
    assert [line for line in ignored if not re.search(r"=DL\d+  # \w+", line)] == []


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_image_does_not_run_as_root(target: str) -> None:
    assert re.findall(r"^USER (.*)$", stage(target), re.MULTILINE) == ["10001:10001"]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_image_has_the_gateways_modules_compiled_for_good(target: str, tmp_path: Path) -> None:
    command = re.search(r"^RUN python (-m compileall .*)$(?=\nUSER)", stage(target), re.MULTILINE)
    assert command is not None
    copied = re.findall(r"^COPY (\w+) ", stage(target), re.MULTILINE)
    assert copied == ["gateway", "engine_config"]
    for package in copied:
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").touch()
    subprocess.run([sys.executable, *command[1].split()], cwd=tmp_path, check=True)
    for package in copied:
        (compiled,) = (tmp_path / package / "__pycache__").iterdir()
        assert compiled.read_bytes()[4] == 1  # never compared with its source (PEP 552)


def test_what_the_image_copies_is_in_the_repository_and_in_the_build_context() -> None:
    context = set(re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    lines = re.findall(r"^COPY (?!--from)(.*)$", dockerfile().replace("\\\n", ""), re.MULTILINE)
    copied = {Path(source) for line in lines for source in line.split()[:-1]}
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    assert {source.parts[0] for source in copied} == context


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_docker_runs_what_it_built_as_compose_does(target: str) -> None:
    """The commands cannot be run here: each option is held against the Dockerfile and the compose file."""
    text = (DEPLOY / "README.md").read_text()
    (build,) = re.findall(rf"^(docker build .*--tag llava-gateway:{target} \.)$", text, re.MULTILINE)
    assert build.split()[2:6] == ["--file", "deploy/Dockerfile", "--target", target]
    (run_,) = re.findall(rf"^docker run (.*) llava-gateway:{target}$", text, re.MULTILINE)
    words = run_.split()
    options = [pair for pair in itertools.pairwise(words) if pair[0].startswith("--")]
    gateway = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gateway"]
    assert [f for option, f in options if option == "--publish"] == gateway["ports"]
    assert [f.split(":")[1] for option, f in options if option == "--volume"] == ["/cache"]
    assert "VOLUME /cache" in stage(target)
    assert ("--init" in words, "--shm-size 1g" in run_, gateway["shm_size"]) == (gateway["init"], True, "1gb")
    given = dict(f.split("=") for option, f in options if option == "--env")
    assert given["GATEWAY_OPEN_ACCESS"] == str(gateway["environment"]["GATEWAY_OPEN_ACCESS"])
    assert given["GATEWAY_PLAYGROUND"] == gateway["environment"]["GATEWAY_PLAYGROUND"]
    Settings.model_validate({name.removeprefix(PREFIX).lower(): value for name, value in given.items()})
    assert ("--gpus all" in run_) == (target == "gpu")


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_file_follows_the_specification(name: str) -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)


@pytest.mark.parametrize("name", ["Dockerfile", "spaces/stage.Dockerfile", *COMPOSE])
def test_settings_given_there_exist_and_have_values_they_may_have(name: str) -> None:
    given = settings_in(name)
    assert set(given) - set(Settings.model_fields) == set()
    Settings.model_validate(given)


def test_settings_named_in_the_text_exist() -> None:
    named = set(re.findall(rf"\b{PREFIX}(\w+)", (DEPLOY / "README.md").read_text()))
    assert {name for name in named if name.lower() not in Settings.model_fields} == set()


def test_the_machine_chooses_the_profile_unless_the_shell_names_one() -> None:
    assert [name for name in ("Dockerfile", *COMPOSE) if "profile" in settings_in(name)] == []
    passed = re.findall(r"^      ([A-Z_]+):$", (DEPLOY / "compose.yaml").read_text(), re.MULTILINE)
    assert passed == ["GATEWAY_PROFILE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"]


def test_the_profiles_named_in_the_text_exist() -> None:
    named = re.findall(r"GATEWAY_PROFILE=(\S+)", (DEPLOY / "README.md").read_text())
    assert named
    assert set(named) <= set(profile.names())


def test_the_container_is_killed_later_than_the_last_request_may_end() -> None:
    grace = re.search(r"stop_grace_period: (\d+)s", (DEPLOY / "compose.yaml").read_text())
    assert grace is not None
    assert int(grace[1]) > int(settings_in("compose.yaml")["shutdown_timeout"])


def test_the_container_may_take_what_clients_can_make_it_take() -> None:
    gateway = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gateway"]
    limits = gateway["deploy"]["resources"]["limits"]
    settings = Settings.model_validate(settings_in("compose.yaml"))
    assert settings.image_threads == int(limits["cpus"])
    clients = peak_bytes(settings.completed(40, keyed=False), settings.image_threads)
    idle, engine = 1.1e9, 4 * 2**30  # docs/memory.md; the demo model's core with its KV cache
    fork_server = 187 * 2**20  # docs/operations.md
    allowed = int(limits["memory"].removesuffix("g")) * 2**30
    assert sum(clients.values()) + idle + engine + fork_server < allowed


def test_compose_serves_the_page_on_this_machine_alone() -> None:
    gateway = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gateway"]
    assert (gateway["environment"]["GATEWAY_PLAYGROUND"], gateway["ports"]) == ("on", ["127.0.0.1:8000:8000"])


def test_promtool_takes_the_configuration() -> None:
    run(require("promtool", "prometheus"), "check", "config", DEPLOY / "prometheus.yml")


def test_promtool_has_nothing_to_say_against_the_metrics() -> None:
    metrics = Metrics()
    for metric in vars(metrics).values():  # Prometheus shows a metric with labels once it has a value.
        if names := getattr(metric, "_labelnames", ()):
            metric.labels(*names)
    page = generate_latest(metrics.registry)
    run(require("promtool", "prometheus"), "check", "metrics", stdin=page)
