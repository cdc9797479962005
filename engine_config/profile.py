"""A profile: which model is served and how the engine runs it, as data in `profiles/*.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

FOLDER = Path(__file__).parent
PROFILES = FOLDER / "profiles"

# Engine arguments that the gateway gives itself, from the profile's other keys and its own settings.
OWN_ARGUMENTS = {
    "model": "model",
    "revision": "revision",
    "tokenizer": "model",
    "tokenizer_revision": "revision",
    "served_model_name": "served_name",
    "limit_mm_per_prompt": "GATEWAY_MAX_IMAGES",
}
# Engine arguments that we read ourselves; vLLM checks the others (gateway/engine/vllm_profile.py).
READ: Mapping[str, type] = {
    "dtype": str,
    "quantization": str,
    "attention_backend": str,
    "kv_cache_dtype": str,
    "max_model_len": int,
    "max_num_seqs": int,
    "max_num_batched_tokens": int,
    "kv_cache_memory_bytes": int,
    "tensor_parallel_size": int,
    "gpu_memory_utilization": float,
    "enforce_eager": bool,
}

Device = Literal["any", "cpu", "gpu"]


class ProfileError(ValueError):
    """A profile cannot be used; the message names the profile, the key and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """A model, and how the engine runs it."""

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
    temperature: float | None = None  # for requests that give neither this nor `top_p`; else 1, as OpenAI's
    top_p: float | None = None  # the same
    revision: str | None = None  # a branch, tag or commit of the repository; its default branch where not set
    device: Device = "any"  # the engine that it is for
    compute_capability: str | None = None  # the least that it needs of a GPU, such as "8.9"
    engine: Mapping[str, Any] = field(default_factory=dict)  # vLLM's engine arguments, by their names
    environment: Mapping[str, str] = field(default_factory=dict)  # of the engine's processes

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
    def is_local(self) -> bool:
        return Path(self.model_path).is_dir()

    @property
    def max_model_len(self) -> int:
        """Return the context in tokens: what LLaVA-1.5 was trained for where the profile does not say."""
        return int(self.engine.get("max_model_len", 4096))

    @property
    def max_num_seqs(self) -> int:
        """Return how many sequences the engine runs at once: the plan's, or vLLM's default."""
        return int(self.engine.get("max_num_seqs", 256))

    @property
    def capability(self) -> tuple[int, int]:
        """Return the least compute capability that the profile asks for; (0, 0) where it asks for none."""
        major, _, minor = (self.compute_capability or "0.0").partition(".")
        return int(major), int(minor)


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
    _check_engine(path.stem, table.get("engine", {}))
    environment = _environment(path.stem, table.pop("environment", {}))
    return EngineProfile(name=path.stem, **table, environment=environment)


def _check(name: str, table: dict[str, Any]) -> None:
    wanted = {field.name: field for field in fields(EngineProfile) if field.name != "name"}
    for key in table:
        if key in wanted:
            continue
        hint = "; engine arguments belong in [engine]" if key in READ else ""
        raise ProfileError(f"profile {name!r}: {key!r} is not a key of a profile{hint}")
    types = get_type_hints(EngineProfile)
    for key, known in wanted.items():
        if key not in table:
            if known.default is MISSING and known.default_factory is MISSING:
                raise ProfileError(f"profile {name!r}: {key!r} is missing")
        elif not _fits(table[key], types[key]):
            raise ProfileError(f"profile {name!r}: {key} = {table[key]!r} is not {_words(types[key])}")
    for key, (above, most) in {"temperature": (-1e-9, 2), "top_p": (0, 1)}.items():
        if key in table and not above < table[key] <= most:
            raise ProfileError(f"profile {name!r}: {key} = {table[key]!r} is out of range; at most {most}")
    capability = table.get("compute_capability", "0.0").split(".")
    if len(capability) != len("xy") or not all(part.isdigit() for part in capability):
        given = table["compute_capability"]
        raise ProfileError(f"profile {name!r}: compute_capability = {given!r} is not like '8.9'")


def _check_engine(name: str, arguments: dict[str, Any]) -> None:
    for key, value in arguments.items():
        if key in OWN_ARGUMENTS:
            raise ProfileError(
                f"profile {name!r}: engine.{key} is set by the gateway, from {OWN_ARGUMENTS[key]}"
            )
        if (
            key == "data_parallel_size" and value != 1
        ):  # In one process vLLM would do without its image cache.
            raise ProfileError(
                f"profile {name!r}: engine.data_parallel_size must be 1; got {value!r}. "
                "Run one gateway a GPU instead: docs/scaling.md"
            )
        if key in READ and not _fits(value, READ[key]):
            raise ProfileError(f"profile {name!r}: engine.{key} = {value!r} is not {READ[key].__name__}")


def _environment(name: str, table: dict[str, Any]) -> dict[str, str]:
    for key, value in table.items():
        if type(value) not in (str, int):
            raise ProfileError(f"profile {name!r}: environment.{key} = {value!r} is not str or int")
    return {key: str(value) for key, value in table.items()}


def _fits(value: Any, wanted: Any) -> bool:
    if wanted is float:
        return type(value) in (int, float)
    if wanted in (str, bool, int):
        return type(value) is wanted
    if get_origin(wanted) is tuple:
        return type(value) is list and all(_fits(item, get_args(wanted)[0]) for item in value)
    if get_origin(wanted) is not None and issubclass(_class(wanted), Mapping):
        return isinstance(value, dict)
    return any(value == choice or _fits(value, choice) for choice in get_args(wanted))


def _class(wanted: Any) -> type:
    origin = get_origin(wanted)
    return origin if isinstance(origin, type) else type(None)


def _words(wanted: Any) -> str:
    if get_origin(wanted) is tuple:
        return f"a list of {_words(get_args(wanted)[0])}"
    if issubclass(_class(wanted), Mapping):
        return "a table"
    choices = [choice for choice in get_args(wanted) if choice is not type(None)]
    if not choices:
        return str(getattr(wanted, "__name__", wanted))
    return " or ".join(_words(choice) for choice in choices)
