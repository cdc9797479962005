"""`GET /v1/models` and `GET /v1/models/{id}`."""

import time
from typing import Any

from fastapi import APIRouter

from engine_config.profile import EngineProfile
from gateway.errors import ModelNotFound
from gateway.schema.paths import short


def router(profile: EngineProfile) -> APIRouter:
    """Return the routes for the one model that `profile` serves."""
    routes = APIRouter()
    model: dict[str, Any] = {
        "id": profile.served_name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "llava-gateway",
        "max_model_len": profile.max_model_len,
    }

    @routes.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    # A model's name on the hub has a slash in it.
    @routes.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> dict[str, Any]:
        if name != model["id"]:
            raise ModelNotFound(
                f"model: {short(name)!r} is not served here; {model['id']!r} is", param="model"
            )
        return model

    return routes
