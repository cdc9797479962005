"""Checks a profile's engine arguments against the installed vLLM, before weights are fetched.

Names and types are those of vLLM's `AsyncEngineArgs`. If the type is a plain string and vLLM has a registry
of values, the value is looked up there. Written against vLLM 0.32.
"""

import dataclasses
import difflib
from collections.abc import Collection
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from vllm.config.quantization import QuantizationConfigArgs
from vllm.engine import arg_utils
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, QuantizationMethods
from vllm.plugins import load_general_plugins
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.attention.backends.registry import AttentionBackendEnum

from engine_config.profile import EngineProfile, ProfileError

PACKAGES = {"bitsandbytes": "vllm-bnb-plugin"}  # values that need an extra package
BACKENDS = ("attention_backend", "mm_encoder_attn_backend")
CLASSES = ("worker_cls", "worker_extension_cls", "scheduler_cls")  # by their qualified names


def check(profile: EngineProfile) -> None:
    """Raise ProfileError, naming the key, for an argument or value that this vLLM does not know."""
    load_general_plugins()  # Plug-ins register quantizations and load formats.
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    hints = get_type_hints(AsyncEngineArgs, vars(arg_utils) | _deferred())
    for key, value in profile.engine.items():
        if key not in known:
            raise ProfileError(
                f"profile {profile.name!r}: engine.{key} is not an argument of vLLM's engine"
                f"{_close(key, known)}"
            )
        if problem := _problem(key, value, hints[key]):
            raise ProfileError(f"profile {profile.name!r}: engine.{key} = {value!r} {problem}")


def _problem(key: str, value: Any, hint: Any) -> str | None:
    """Return what is wrong with the value, as the end of a sentence, or None."""
    if key in CLASSES and isinstance(value, str):
        return None if value == "auto" else _not_importable(value)
    if key == "distributed_executor_backend" and isinstance(value, str) and "." in value:
        return _not_importable(value)
    registered = _registered(key)
    if registered is not None and isinstance(value, str):
        return None if value in registered else _unknown(value, registered)
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # One of vLLM's configuration classes, which has its own configuration.
        adapter = TypeAdapter(hint)
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False)
        return f"is not right: {'; '.join(sorted({entry['msg'] for entry in found}))}"
    return None


def _registered(key: str) -> Collection[str] | None:
    """Return the values that vLLM knows for `key`, if it has a registry of them."""
    if key == "quantization":
        return list(QUANTIZATION_METHODS)
    if key == "load_format":
        # Only here, because it imports all of vLLM's loaders.
        from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER

        return list(_LOAD_FORMAT_TO_MODEL_LOADER)
    if key in BACKENDS:
        names = set(AttentionBackendEnum.__members__)
        return names | {name.lower() for name in names} | {"auto"}
    if key == "distributed_executor_backend":
        return get_args(arg_utils.DistributedExecutorBackend)
    return None


def _unknown(value: str, registered: Collection[str]) -> str:
    if package := PACKAGES.get(value):
        return f"is not known to this vLLM: install the package {package}"
    return f"is not known to this vLLM; it knows {', '.join(sorted(registered))}"


def _not_importable(name: str) -> str | None:
    try:
        resolve_obj_by_qualname(name)
    except (ImportError, AttributeError, ValueError) as error:
        return f"cannot be imported: {error}"
    return None


def _close(key: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _deferred() -> dict[str, Any]:
    """Return the names in vLLM's annotations that it imports only for type checkers."""
    return {
        "QuantizationConfigArgs": QuantizationConfigArgs,
        "QuantizationMethods": QuantizationMethods,
        "LoadFormats": str,
        "Executor": Any,
    }
