"""Profiles are data that is checked when it is loaded."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine_config import profile as profiles
from engine_config.profile import ProfileError
from gateway.cli import app
from gateway.engine.vllm_model import engine_arguments
from gateway.prompt.styles import STYLES
from tests.each import each

SHIPPED = (
    "demo",
    "llava-1.5-13b",
    "llava-1.5-13b-4bit",
    "llava-1.5-7b",
    "llava-1.5-7b-4bit",
    "llava-1.5-7b-cpu",
    "llava-1.5-7b-fp8",
)
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


@each(
    ("change", "message"),
    [
        (("", "colour = 1\n"), "'colour' is not a key of a profile"),
        (("", "name = 'x'\n"), "'name' is not a key of a profile"),
        (
            ("", "max_num_seqs = 3\n"),
            "'max_num_seqs' is not a key of a profile; engine arguments belong in [engine]",
        ),
        (("", "device = 'tpu'\n"), "device = 'tpu' is not any or cpu or gpu"),
        (("", "compute_capability = 8.9\n"), "compute_capability = 8.9 is not str"),
        (("", "compute_capability = '8'\n"), "compute_capability = '8' is not like '8.9'"),
        (("model = ", "modle = "), "'modle' is not a key of a profile"),
        (('model = "demo_model"\n', ""), "'model' is missing"),
        (("= 4096", '= "4096"'), "engine.max_model_len = '4096' is not int"),
        (("= 4096", "= 4096.0"), "engine.max_model_len = 4096.0 is not int"),
        (("= 4096", "= true"), "engine.max_model_len = True is not int"),
        (("= 0.3", "= false"), "engine.gpu_memory_utilization = False is not float"),
        (("= 0.3", '= "all"'), "engine.gpu_memory_utilization = 'all' is not float"),
        (("eager = true", "eager = 1"), "engine.enforce_eager = 1 is not bool"),
        (("enforce_eager", "revision"), "engine.revision is set by the gateway, from revision"),
        (
            ("enforce_eager = true", "data_parallel_size = 2"),
            "engine.data_parallel_size must be 1; got 2. Run one gateway a GPU instead: docs/scaling.md",
        ),
        (
            ("enforce_eager", "limit_mm_per_prompt"),
            "engine.limit_mm_per_prompt is set by the gateway, from GATEWAY_MAX_IMAGES",
        ),
        (('"pad"', '"fill"'), "image_fit = 'fill' is not pad or crop or squash"),
        (('"auto"', '"first"'), "image_place = 'first' is not auto or asked"),
        (("", "aliases = ['a', 1]\n"), "aliases = ['a', 1] is not a list of str"),
        (("", "aliases = 'a'\n"), "aliases = 'a' is not a list of str"),
        (("= 0.2", "= 2.1"), "temperature = 2.1 is out of range; at most 2"),
        (("= 0.7", "= 0"), "top_p = 0 is out of range; at most 1"),
        (('"card"', '"chatml"'), "prompt_style = 'chatml' is not card or vicuna_v1 or hub"),
        (("SPACE = 1 ", "SPACE = 1.5 "), "environment.VLLM_CPU_KVCACHE_SPACE = 1.5 is not str or int"),
    ],
)
def test_mistake_in_a_profile_is_told_by_its_key(write: Write, change: tuple[str, str], message: str) -> None:
    old, new = change
    assert old in DEMO
    text = new + DEMO if not old else DEMO.replace(old, new)
    with pytest.raises(ProfileError) as caught:
        profiles.load(write(text))
    assert str(caught.value) == f"profile 'mine': {message}"


@pytest.mark.parametrize("table", ["engine", "environment"])
def test_tables_are_tables(write: Write, table: str) -> None:
    text = DEMO.partition("[engine]")[0] + f"{table} = 3\n"
    with pytest.raises(ProfileError) as caught:
        profiles.load(write(text))
    assert str(caught.value) == f"profile 'mine': {table} = 3 is not a table"


def test_model_s_names_and_how_its_tokens_are_drawn_may_be_said(write: Write) -> None:
    mine = profiles.load(write('aliases = ["gpt-4o", "llava"]\n' + DEMO))
    assert mine.aliases == ("gpt-4o", "llava")
    assert mine.sampling == {"temperature": 0.2, "top_p": 0.7}
    plain = DEMO.replace("temperature = 0.2\n", "").replace("top_p = 0.7\n", "")
    assert profiles.load(write(plain)).sampling == {}
    assert profiles.load(write(plain)).aliases == ()


def test_whole_number_will_do_for_a_share(write: Write) -> None:
    assert profiles.load(write(DEMO.replace("= 0.3", "= 1"))).engine["gpu_memory_utilization"] == 1


def test_profile_that_is_no_toml_is_told_with_its_line(write: Write) -> None:
    with pytest.raises(ProfileError, match=r"^profile '.*mine\.toml': .*line 2"):
        profiles.load(write("model = 'x'\nsummary\n"))


@pytest.mark.parametrize("name", ["llava", "", "../demo", "missing.toml", "/nowhere/missing.toml"])
def test_unknown_profile_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(ProfileError) as caught:
        profiles.load(name)
    assert str(caught.value) == f"profile {name!r}: no such profile; there are {', '.join(SHIPPED)}"


def test_command_lists_them() -> None:
    result = CliRunner().invoke(app, ["profiles"], env={"COLUMNS": "60"})
    assert result.exit_code == 0
    assert all(name in result.stdout for name in SHIPPED)


def test_command_lists_them_as_json() -> None:
    found = json.loads(CliRunner().invoke(app, ["profiles", "--json"]).stdout)
    assert [row["name"] for row in found] == list(SHIPPED)
    assert {row["model"] for row in found if row["download_gb"]} == {
        "llava-hf/llava-1.5-7b-hf",
        "llava-hf/llava-1.5-13b-hf",
    }


def test_demo_profile_runs_as_it_was_measured() -> None:
    """The figures of docs/benchmark are of these settings."""
    demo = profiles.load("demo")
    assert engine_arguments(demo, 7) == {
        "model": demo.model_path,
        "served_model_name": "llava-demo",
        "limit_mm_per_prompt": {"image": 7},
        "scheduling_policy": "priority",
        "dtype": "bfloat16",
        "max_model_len": 4096,
        "max_num_seqs": 40,
        "gpu_memory_utilization": 0.3,
        "enforce_eager": True,
        "enable_prefix_caching": True,
        "mm_processor_cache_gb": 0.5,
        "distributed_executor_backend": "vllm.v1.executor.uniproc_executor.UniProcExecutor",
    }
    assert demo.environment == {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("name", ["llava-1.5-7b-4bit", "llava-1.5-13b-4bit"])
def test_four_bit_profiles_decode_with_cuda_graphs_and_suit_a_small_host(name: str) -> None:
    arguments = engine_arguments(profiles.load(name), 7)
    assert "enforce_eager" not in arguments
    assert arguments["compilation_config"] == {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
    assert arguments["mm_processor_cache_gb"] == 1


def test_any_engine_argument_reaches_vllm_with_the_revision(write: Write) -> None:
    text = DEMO.replace('"demo_model"', '"some/where"').replace(
        "[engine]", 'revision = "v1"\n[engine]\nseed = 7'
    )
    arguments = engine_arguments(profiles.load(write(text)), 3)
    assert arguments["seed"] == 7
    assert arguments["model"] == "some/where"
    assert arguments["revision"] == arguments["tokenizer_revision"] == "v1"


def test_revision_of_the_hub_means_nothing_to_a_folder() -> None:
    fetched = dataclasses.replace(profiles.load("demo"), revision="v1")
    assert "revision" not in engine_arguments(fetched, 7)
