"""`GET /v1/models` and `GET /v1/models/{id}`."""

import time

from fastapi import APIRouter, Response

from engine_config.profile import EngineProfile
from gateway.api.streaming import json_response
from gateway.engine.interface import Model
from gateway.engine.supervisor import Supervisor
from gateway.errors import EngineNotReady, ModelNotFound
from gateway.schema.models import Capabilities, ModelCard, ModelList
from gateway.schema.paths import short
from gateway.settings import Settings


def router(profile: EngineProfile, settings: Settings, engine: Supervisor) -> APIRouter:
    """Return the routes for the one model that `profile` serves, under its name and its aliases."""
    routes = APIRouter()
    created = int(time.time())
    names = (profile.served_name, *profile.aliases, *settings.aliases)

    def loaded() -> Model | None:
        try:
            return engine.model
        except EngineNotReady:
            return None

    def capabilities() -> Capabilities:
        model = loaded()
        length = model.context_length if model else profile.max_model_len
        # Beside its pictures a prompt has `<s>`, and there must be room for an answer.
        room = (length - 2) // model.tokens_per_image if model else settings.max_images
        return Capabilities(
            context_length=length,
            tokens_per_image=model.tokens_per_image if model else None,
            max_images=min(settings.max_images, room),
            max_image_bytes=settings.image_max_bytes,
            max_body_bytes=settings.body_max_bytes,
            prompt_style=profile.prompt_style,
            image_fit=settings.image_fit or profile.image_fit,
            image_place=settings.image_place or profile.image_place,
        )

    def card(name: str) -> ModelCard:
        able = capabilities()
        return ModelCard(name, created, profile.served_name, able.context_length, able)

    @routes.get("/v1/models", response_model=None)
    async def list_models() -> Response:
        return json_response(ModelList([card(name) for name in names]))

    # A model's name on the hub has a slash in it.
    @routes.get("/v1/models/{name:path}", response_model=None)
    async def retrieve_model(name: str) -> Response:
        if name not in names:
            raise ModelNotFound(
                f"model: {short(name)!r} is not served here; use {profile.served_name!r}", param="model"
            )
        return json_response(card(name))

    return routes
