"""`GET /v1/models` and `GET /v1/models/{id}`."""

import time
from typing import Any

from fastapi import APIRouter

from engine_config.profile import EngineProfile
from gateway.errors import ModelNotFound
from gateway.schema.paths import short
from gateway.settings import Settings


def router(profile: EngineProfile, settings: Settings) -> APIRouter:
    """Return the routes for the one model that `profile` serves, under its name and its aliases."""
    routes = APIRouter()
    created = int(time.time())
    # `root` is vLLM's: the model behind the name.
    models: dict[str, dict[str, Any]] = {
        name: {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "llava-gateway",
            "root": profile.served_name,
            "max_model_len": profile.max_model_len,
        }
        for name in (profile.served_name, *profile.aliases, *settings.aliases)
    }

    @routes.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": list(models.values())}

    # A model's name on the hub has a slash in it.
    @routes.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> dict[str, Any]:
        if name not in models:
            raise ModelNotFound(
                f"model: {short(name)!r} is not served here; {profile.served_name!r} is", param="model"
            )
        return models[name]

    return routes
