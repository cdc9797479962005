"""A profile: which model is served and how the engine runs it, as data in `profiles/*.toml`."""

import shutil
import subprocess
import tomllib
from dataclasses import KW_ONLY, MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

FOLDER = Path(__file__).parent
PROFILES = FOLDER / "profiles"


class ProfileError(ValueError):
    """A profile cannot be used; the message names the profile, the key and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """A model and the engine's settings for it; from `dtype` on, the names are vLLM's engine arguments."""

    name: str
    summary: str
    model: str  # a folder beside this file, a folder elsewhere or a repository of the Hugging Face hub
    served_name: str
    download_gb: float  # what the first start fetches from the hub
    prompt_style: Literal["card", "vicuna_v1", "hub"]
    image_fit: Literal["pad", "crop", "squash"]
    _: KW_ONLY
    image_place: Literal["auto", "asked"] = "auto"  # where pictures stand in a message
    aliases: tuple[str, ...] = ()  # further names that the model answers to
    temperature: float | None = None  # where the client says none; OpenAI's 1 where this says none either
    top_p: float | None = None  # the same

    dtype: Literal["float32", "float16", "bfloat16", "half", "auto"]
    max_model_len: int
    max_num_seqs: int
    gpu_memory_utilization: float
    revision: str | None = None  # a branch, tag or commit of the repository; its default branch where not set
    quantization: Literal["bitsandbytes"] | None = None
    distributed_executor_backend: str | None = None
    enforce_eager: bool = False
    enable_prefix_caching: bool = True
    max_num_batched_tokens: int | None = None
    mm_processor_cache_gb: float = 4.0
    cpu_kvcache_gib: int | None = None  # vLLM's VLLM_CPU_KVCACHE_SPACE
    cpu_threads: int | None = None  # of the model, OMP_NUM_THREADS

    @property
    def sampling(self) -> dict[str, float]:
        """Return how tokens are drawn where the client does not say, by OpenAI's names."""
        chosen = {"temperature": self.temperature, "top_p": self.top_p}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def model_path(self) -> str:
        """Return `model` as vLLM takes it: a local folder where there is one, else a name on the hub."""
        beside = FOLDER / self.model
        return str(beside) if beside.is_dir() else self.model

    @property
    def environment(self) -> dict[str, str]:
        """Return what vLLM and its libraries take from the environment and from nowhere else."""
        chosen = {
            "HF_HUB_OFFLINE": 1 if self.is_local else None,
            "VLLM_CPU_KVCACHE_SPACE": self.cpu_kvcache_gib,
            "OMP_NUM_THREADS": self.cpu_threads,
        }
        return {name: str(value) for name, value in chosen.items() if value is not None}

    @property
    def is_local(self) -> bool:
        return Path(self.model_path).is_dir()


def names() -> list[str]:
    """Return the names of the profiles that the package carries."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def load(name: str) -> EngineProfile:
    """Return the profile `name`: one of the package's, or the path of a TOML file.

    Raises ProfileError for an unknown profile, an unknown or missing key and a value of the wrong type.
    """
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not path.is_file():
        raise ProfileError(f"profile {name!r}: no such profile; there are {', '.join(names())}")
    with path.open("rb") as file:
        try:
            table = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise ProfileError(f"profile {name!r}: {error}") from None
    _check(path.stem, table)
    table["aliases"] = tuple(table.get("aliases", ()))
    return EngineProfile(name=path.stem, **table)


def choose(name: str | None) -> tuple[EngineProfile, str]:
    """Return the profile to serve and, in words, why it was chosen."""
    if name is not None:
        return load(name), "as asked"
    gpu = _gpu()
    if gpu:
        return load("llava-1.5-7b"), f"this machine has a GPU ({gpu})"
    return load("demo"), "nvidia-smi shows no GPU on this machine"


def _check(name: str, table: dict[str, Any]) -> None:
    wanted = {field.name: field for field in fields(EngineProfile) if field.name != "name"}
    for key in table:
        if key not in wanted:
            raise ProfileError(f"profile {name!r}: {key!r} is no key of a profile")
    types = get_type_hints(EngineProfile)
    for key, field in wanted.items():
        if key not in table:
            if field.default is MISSING:
                raise ProfileError(f"profile {name!r}: {key!r} is missing")
        elif not _fits(table[key], types[key]):
            raise ProfileError(f"profile {name!r}: {key} = {table[key]!r} is not {_words(types[key])}")
    for key, (above, most) in {"temperature": (-1e-9, 2), "top_p": (0, 1)}.items():
        if key in table and not above < table[key] <= most:
            raise ProfileError(f"profile {name!r}: {key} = {table[key]!r} is out of range; at most {most}")


def _fits(value: Any, wanted: Any) -> bool:
    if wanted is float:
        return type(value) in (int, float)
    if wanted in (str, bool, int):
        return type(value) is wanted
    if get_origin(wanted) is tuple:
        return type(value) is list and all(_fits(item, get_args(wanted)[0]) for item in value)
    return any(value == choice or _fits(value, choice) for choice in get_args(wanted))


def _words(wanted: Any) -> str:
    if get_origin(wanted) is tuple:
        return f"a list of {_words(get_args(wanted)[0])}"
    choices = [choice for choice in get_args(wanted) if choice is not type(None)]
    if not choices:
        return str(getattr(wanted, "__name__", wanted))
    return " or ".join(_words(choice) for choice in choices)


def _gpu() -> str | None:
    """Return the first GPU's name, as nvidia-smi tells it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603  # a fixed command
    except (subprocess.SubprocessError, OSError):
        return None
    return answer.stdout.strip().partition("\n")[0] or None
