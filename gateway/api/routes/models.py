"""`GET /v1/models` and `GET /v1/models/{id}`."""

import time

from fastapi import APIRouter, Response

from engine_config.profile import EngineProfile
from gateway.api.streaming import json_response
from gateway.engine.supervisor import Supervisor
from gateway.errors import ModelNotFound
from gateway.schema.models import Capabilities, ModelCard, ModelList
from gateway.schema.paths import short
from gateway.settings import Settings


def router(profile: EngineProfile, settings: Settings, engine: Supervisor) -> APIRouter:
    """Return the routes for the one model that `profile` serves, under its name and its aliases."""
    routes = APIRouter()
    created = int(time.time())
    names = (profile.served_name, *profile.aliases, *settings.aliases)

    def capabilities() -> Capabilities:
        tokens = engine.model.tokens_per_image if engine.ready else None
        # Beside its pictures a prompt has `<s>`, and there must be room for an answer.
        room = (profile.max_model_len - 2) // tokens if tokens else settings.max_images
        return Capabilities(
            context_length=profile.max_model_len,
            tokens_per_image=tokens,
            max_images=min(settings.max_images, room),
            prompt_style=profile.prompt_style,
            image_fit=settings.image_fit or profile.image_fit,
            image_place=settings.image_place or profile.image_place,
        )

    def card(name: str) -> ModelCard:
        return ModelCard(name, created, profile.served_name, profile.max_model_len, capabilities())

    @routes.get("/v1/models", response_model=None)
    async def list_models() -> Response:
        return json_response(ModelList([card(name) for name in names]))

    # A model's name on the hub has a slash in it.
    @routes.get("/v1/models/{name:path}", response_model=None)
    async def retrieve_model(name: str) -> Response:
        if name not in names:
            raise ModelNotFound(
                f"model: {short(name)!r} is not served here; {profile.served_name!r} is", param="model"
            )
        return json_response(card(name))

    return routes
