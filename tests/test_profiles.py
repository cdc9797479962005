"""Profiles are data that is checked when it is loaded."""

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from engine_config import profile as profiles
from engine_config.profile import EngineProfile, ProfileError
from gateway.cli import app
from gateway.engine.vllm_engine import engine_arguments
from gateway.prompt.styles import STYLES

SHIPPED = ("demo", "llava-1.5-13b", "llava-1.5-7b", "llava-1.5-7b-4bit")
DEMO = (profiles.PROFILES / "demo.toml").read_text()

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a profile of that text and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


def test_shipped_profiles_are_these() -> None:
    assert tuple(profiles.names()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profile_loads(name: str) -> None:
    profile = profiles.load(name)
    assert profile.name == name
    assert profile.prompt_style in STYLES
    assert profile.max_model_len == 4096
    # What is fetched is said before; what lies here is not fetched.
    assert profile.is_local == (profile.download_gb == 0)
    assert profile.summary.endswith(".")


def test_profile_of_ones_own_is_loaded_by_its_path(write: Write) -> None:
    mine = profiles.load(write(DEMO))
    assert mine == dataclasses.replace(profiles.load("demo"), name="mine")


def test_local_model_beside_the_profiles_is_found() -> None:
    demo = profiles.load("demo")
    assert demo.model_path == str(profiles.FOLDER / "demo_model")
    assert profiles.load("llava-1.5-7b").model_path == "llava-hf/llava-1.5-7b-hf"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("", "colour = 1\n"), "profile 'mine': 'colour' is no key of a profile"),
        (("", "name = 'x'\n"), "profile 'mine': 'name' is no key of a profile"),
        (("model = ", "modle = "), "profile 'mine': 'modle' is no key of a profile"),
        (('model = "demo_model"\n', ""), "profile 'mine': 'model' is missing"),
        (("max_num_seqs = 40\n", ""), "profile 'mine': 'max_num_seqs' is missing"),
        (("= 4096", '= "4096"'), "profile 'mine': max_model_len = '4096' is not int"),
        (("= 4096", "= 4096.0"), "profile 'mine': max_model_len = 4096.0 is not int"),
        (("= 4096", "= true"), "profile 'mine': max_model_len = True is not int"),
        (("= 0.3", "= false"), "profile 'mine': gpu_memory_utilization = False is not float"),
        (("= 0.3", '= "all"'), "profile 'mine': gpu_memory_utilization = 'all' is not float"),
        (("eager = true", "eager = 1"), "profile 'mine': enforce_eager = 1 is not bool"),
        (('"pad"', '"fill"'), "profile 'mine': image_fit = 'fill' is not pad or crop or squash"),
        (('"auto"', '"first"'), "profile 'mine': image_place = 'first' is not auto or asked"),
        (("", "aliases = ['a', 1]\n"), "profile 'mine': aliases = ['a', 1] is not a list of str"),
        (("", "aliases = 'a'\n"), "profile 'mine': aliases = 'a' is not a list of str"),
        (("= 0.2", "= 2.1"), "profile 'mine': temperature = 2.1 is out of range; at most 2"),
        (("= 0.7", "= 0"), "profile 'mine': top_p = 0 is out of range; at most 1"),
        (('"card"', '"chatml"'), "profile 'mine': prompt_style = 'chatml' is not card or vicuna_v1 or hub"),
        (("gib = 1", "gib = 1.5"), "profile 'mine': cpu_kvcache_gib = 1.5 is not int"),
    ],
)
def test_mistake_in_a_profile_is_told_by_its_key(write: Write, change: tuple[str, str], message: str) -> None:
    old, new = change
    assert old in DEMO
    with pytest.raises(ProfileError) as caught:
        profiles.load(write(new + DEMO if not old else DEMO.replace(old, new)))
    assert str(caught.value) == message


def test_model_s_names_and_how_its_tokens_are_drawn_may_be_said(write: Write) -> None:
    mine = profiles.load(write('aliases = ["gpt-4o", "llava"]\n' + DEMO))
    assert mine.aliases == ("gpt-4o", "llava")
    assert mine.sampling == {"temperature": 0.2, "top_p": 0.7}
    plain = DEMO.replace("temperature = 0.2\n", "").replace("top_p = 0.7\n", "")
    assert profiles.load(write(plain)).sampling == {}
    assert profiles.load(write(plain)).aliases == ()


def test_whole_number_will_do_for_a_share(write: Write) -> None:
    assert profiles.load(write(DEMO.replace("= 0.3", "= 1"))).gpu_memory_utilization == 1


def test_profile_that_is_no_toml_is_told_with_its_line(write: Write) -> None:
    with pytest.raises(ProfileError, match=r"^profile '.*mine\.toml': .*line 2"):
        profiles.load(write("model = 'x'\nsummary\n"))


@pytest.mark.parametrize("name", ["llava", "", "../demo", "missing.toml", "/nowhere/missing.toml"])
def test_unknown_profile_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(ProfileError) as caught:
        profiles.load(name)
    assert str(caught.value) == f"profile {name!r}: no such profile; there are {', '.join(SHIPPED)}"


def test_machine_chooses_where_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profiles.choose("llava-1.5-13b") == (profiles.load("llava-1.5-13b"), "as asked")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert profiles.choose(None) == (profiles.load("demo"), "nvidia-smi shows no GPU on this machine")

    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(
        "subprocess.run", lambda *_, **__: SimpleNamespace(stdout="NVIDIA A10G\nNVIDIA A10G\n")
    )
    assert profiles.choose(None) == (profiles.load("llava-1.5-7b"), "this machine has a GPU (NVIDIA A10G)")


def test_gpu_tool_that_fails_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("subprocess.run", fail)
    assert profiles.choose(None)[0].name == "demo"


def test_command_lists_them() -> None:
    result = CliRunner().invoke(app, ["profiles"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert all(name in result.stdout for name in SHIPPED)


def test_what_vllm_takes_from_the_environment_alone_is_told() -> None:
    demo = profiles.load("demo")
    assert demo.environment == {
        "HF_HUB_OFFLINE": "1",  # A model that is here must never be looked for elsewhere.
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
    }
    assert profiles.load("llava-1.5-7b").environment == {}


@pytest.mark.parametrize("name", SHIPPED)
def test_unset_engine_arguments_are_left_to_vllm(name: str) -> None:
    arguments = engine_arguments(profiles.load(name), 7)
    assert None not in arguments.values()
    assert arguments["limit_mm_per_prompt"] == {"image": 7}


@pytest.mark.engine
def test_engine_arguments_are_vllms() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415  # takes seconds, and is not always there

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    names = [field.name for field in dataclasses.fields(EngineProfile)]
    ours = set(names[names.index("dtype") :]) - {
        "cpu_kvcache_gib",
        "cpu_threads",
    }  # these go by the environment
    assert ours <= known
    for name in SHIPPED:
        assert set(engine_arguments(profiles.load(name), 7)) <= known
