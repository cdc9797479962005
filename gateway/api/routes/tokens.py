"""`/tokenize`, `/detokenize`, `/v1/chat/completions/render`: the tokens of a prompt; nothing is generated."""

from functools import partial

from fastapi import APIRouter, Request, Response

from gateway.access.callers import Caller
from gateway.api.exchange import Exchange
from gateway.api.streaming import json_response, while_connected
from gateway.generation import chat, rendering
from gateway.generation.request import GenerationRequest, RawPrompt
from gateway.generation.tokenizing import Tokenizing
from gateway.schema.render import RenderRequest
from gateway.schema.tokens import Detokenize, TokenizeChat, TokenizeText
from gateway.schema.validation import checked, json_object, parse


def router(exchange: Exchange) -> APIRouter:
    """Return the routes, wired to what they need."""
    routes = APIRouter()
    tokenizing = Tokenizing(exchange.pipeline)

    @routes.post("/tokenize", response_model=None)
    async def tokenize(request: Request) -> Response:
        return await exchange.compute(request, tokenized)

    @routes.post("/detokenize", response_model=None)
    async def detokenize(request: Request) -> Response:
        return await exchange.compute(request, detokenized)

    @routes.post("/v1/chat/completions/render", response_model=None)
    async def render(request: Request) -> Response:
        return await exchange.compute(request, partial(rendered, request))

    async def rendered(request: Request, body: bytes, caller: Caller) -> Response:
        wanted = parse(body, RenderRequest)
        account = exchange.account(request)
        async with while_connected(request.receive):
            found = await rendering.render(
                exchange.pipeline, chat.read(wanted, "render", caller.scope), wanted.render_fits, account
            )
        return json_response(found)

    async def tokenized(body: bytes, caller: Caller) -> Response:
        content = json_object(body)
        if content.get("messages") is not None:
            content.setdefault("model", exchange.pipeline.model.name)
            wanted = checked(content, TokenizeChat)
            asked = chat.read(wanted, "tokenize", caller.scope)
            return json_response(await tokenizing.tokenize(asked, caller, strings=wanted.return_token_strs))
        text = checked(content, TokenizeText)
        model = text.model or exchange.pipeline.model.name
        prompts = (RawPrompt(text.prompt, "prompt"),)
        asked = GenerationRequest("tokenize", model, (), caller.scope, prompts=prompts)
        return json_response(
            await tokenizing.tokenize(
                asked, caller, strings=text.return_token_strs, opened=text.add_special_tokens is not False
            )
        )

    async def detokenized(body: bytes, _: Caller) -> Response:
        wanted = parse(body, Detokenize)
        return json_response(tokenizing.detokenize(wanted.tokens, wanted.model))

    return routes
