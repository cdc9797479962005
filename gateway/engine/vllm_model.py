"""Converts a profile to vLLM's arguments, and its model to `Model`. Does not import vLLM."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine_config import hub
from engine_config.profile import EngineProfile
from gateway.engine.fingerprint import fingerprint
from gateway.engine.interface import Model
from gateway.engine.supervisor import Report
from gateway.engine.vocabulary import TokenizerFile


def engine_arguments(profile: EngineProfile, max_images: int) -> dict[str, Any]:
    """Return vLLM's engine arguments for `profile`, by the names of its `EngineArgs`."""
    own = {
        "model": profile.model_path,
        "served_model_name": profile.served_name,  # else vLLM's metrics are labelled with the model's path
        "limit_mm_per_prompt": {"image": max_images},
        "scheduling_policy": "priority",  # batch lines run after all other requests
    }
    if profile.revision and not profile.is_local:
        own |= {"revision": profile.revision, "tokenizer_revision": profile.revision}
    return own | dict(profile.engine)


def with_weights(profile: EngineProfile, report: Report) -> EngineProfile:
    """Return `profile` with its model in a folder, fetched if it is missing. Raises HubError.

    A local copy is used without asking the hub for a newer one.
    """
    if profile.is_local:
        if lacking := hub.missing(Path(profile.model_path)):
            raise hub.HubError(f"profile {profile.name!r}: {profile.model_path} lacks {', '.join(lacking)}")
        return profile
    folder = hub.find(profile.model, profile.revision)
    if folder is None:
        stage = f"fetching {profile.model}"
        report(stage)
        folder = hub.fetch(profile.model, profile.revision, lambda progress: report(stage, progress))
    return replace(profile, model=str(folder))


def describe(profile: EngineProfile, settings: Any, vocabulary: TokenizerFile) -> Model:
    """Return what the gateway needs to know about the model; `settings` is vLLM's `ModelConfig`."""
    config = settings.hf_config
    side = config.vision_config.image_size
    return Model(
        name=profile.served_name,
        context_length=settings.max_model_len,
        image_side=side,
        tokens_per_image=(side // config.vision_config.patch_size) ** 2,
        image_token=config.image_token_index,
        bos_token=config.text_config.bos_token_id,
        eos_token=config.text_config.eos_token_id,
        vocabulary_size=config.text_config.vocab_size,
        vocabulary=vocabulary,
        fingerprint=fingerprint(profile, Path(profile.model_path)),
    )
