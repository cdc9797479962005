"""`/tokenize`, `/detokenize`, `/v1/chat/completions/render`: the tokens of a prompt; nothing is generated."""

from functools import partial

from fastapi import APIRouter, Request, Response

from gateway.answering import rendering
from gateway.answering.context import RequestContext
from gateway.answering.tokenizing import Tokenizing
from gateway.api.exchange import Exchange
from gateway.api.streaming import json_response, while_connected
from gateway.generation import chat
from gateway.generation.request import GenerationRequest, RawPrompt, ignored_header
from gateway.schema.render import RenderRequest
from gateway.schema.tokens import Detokenize, TokenizeChat, TokenizeText
from gateway.schema.validation import checked, json_object, parse


def router(exchange: Exchange) -> APIRouter:
    """Return the routes, wired to what they need."""
    routes = APIRouter()
    answering = exchange.answering
    tokenizing = Tokenizing(answering.pipeline)

    @routes.post("/tokenize", response_model=None)
    async def tokenize(request: Request) -> Response:
        return await exchange.compute(request, tokenized)

    @routes.post("/detokenize", response_model=None)
    async def detokenize(request: Request) -> Response:
        return await exchange.compute(request, detokenized)

    @routes.post("/v1/chat/completions/render", response_model=None)
    async def render(request: Request) -> Response:
        return await exchange.compute(request, partial(rendered, request))

    async def rendered(request: Request, context: RequestContext, body: bytes) -> Response:
        def read() -> tuple[RenderRequest, GenerationRequest]:
            wanted = parse(body, RenderRequest)
            return wanted, chat.read(wanted, "render", context.caller.scope)

        account = answering.account(context)
        async with while_connected(request.receive):
            wanted, asked = await answering.pipeline.aside(body, context.caller)(read)
            fits, reserve = wanted.render_fits, answering.reserve_memory(context)
            found = await rendering.render(answering.pipeline, asked, fits, account, reserve)
        account.foresee(0)
        return json_response(found, headers=ignored_header(asked.ignored))

    async def tokenized(context: RequestContext, body: bytes) -> Response:
        def read() -> tuple[GenerationRequest, bool | None, bool]:
            content = json_object(body)
            if content.get("messages") is not None:
                wanted = checked(content, TokenizeChat)
                return chat.read(wanted, "tokenize", context.caller.scope), wanted.return_token_strs, True
            text = checked(content, TokenizeText)
            prompts = (RawPrompt(text.prompt, "prompt"),)
            asked = GenerationRequest("tokenize", text.model or "", (), context.caller.scope, prompts=prompts)
            return asked, text.return_token_strs, text.add_special_tokens is not False

        asked, strings, opened = await answering.pipeline.aside(body, context.caller)(read)
        found = await tokenizing.tokenize(asked, context.caller, strings=strings, opened=opened)
        return json_response(found, headers=ignored_header(asked.ignored))

    async def detokenized(context: RequestContext, body: bytes) -> Response:
        wanted = await answering.pipeline.aside(body, context.caller)(partial(parse, body, Detokenize))
        return json_response(tokenizing.detokenize(wanted.tokens, wanted.model or ""))

    return routes
