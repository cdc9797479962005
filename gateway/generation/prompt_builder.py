"""From a request's texts to token ids: its conversation as it fits, or prompts that are the client's own."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from engine_config.profile import EngineProfile
from gateway.access.callers import Caller
from gateway.access.fair_threads import FairThreadPool
from gateway.engine.supervisor import Supervisor
from gateway.errors import InvalidValue
from gateway.generation import history, raw_prompts, tool_offer, tools
from gateway.generation.request import GenerationRequest, InputImage, InputMessage
from gateway.generation.sampling import MAX_TOKENS
from gateway.prompt import template, tokens
from gateway.prompt.styles import STYLES, TurnStyle
from gateway.settings import Settings

LONG: Final = 4000  # characters: a prompt of more is made in a thread, for tokenising it takes milliseconds
PART: Final = 20  # characters take as long as a message or a part of one

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation that fits, the tools that its answer may call, and how many the prompt leaves out."""

    fitted: history.Fitted
    offer: tools.Offer | None
    dropped_tools: int


class PromptBuilder:
    """Makes prompts; long ones in threads, in turn between callers."""

    def __init__(self, engine: Supervisor, profile: EngineProfile, settings: Settings) -> None:
        self._engine = engine
        self._style = STYLES[profile.prompt_style]
        self._place = settings.image_place or profile.image_place
        self._settings = settings
        # Tokenising leaves the GIL to others, but not its core.
        threads = settings.image_threads or len(os.sched_getaffinity(0))
        self._turns = FairThreadPool("prompt", max(1, threads // 2), settings)

    async def close(self) -> None:
        """End the threads."""
        await self._turns.close()

    async def aside(self, caller: Caller, work: Callable[[], _T]) -> _T:
        """Return what `work` returns: in a thread, in turn between callers."""
        return await self._turns.run(caller, work)

    async def fit(self, request: GenerationRequest, caller: Caller) -> tuple[GenerationRequest, Conversation]:
        """Return the request with a form of the answer that the engine can keep to, and its conversation.

        Raises RequestError.
        """
        formed, talk = await self._in_turn(request, caller, partial(self._conversation, request))
        constraint = formed.constraint
        if constraint is not None:
            if self._settings.cache_scope == "caller":  # else how long it takes tells who else uses it
                constraint = replace(constraint, scope=request.caller)
                formed = replace(formed, constraint=constraint)
            try:
                await self._engine.check_constraint(constraint)
            except InvalidValue:
                if talk.offer is None or request.tool_choice.mode == "required":
                    raise
                toolless = replace(request, tools=())
                formed, plain = await self._in_turn(toolless, caller, partial(self._conversation, toolless))
                return formed, replace(plain, dropped_tools=len(tools.wanted(request)))
        return formed, talk

    async def first_ids(self, request: GenerationRequest, caller: Caller) -> list[int]:
        """Return the ids of the request's (first) prompt, one token per picture. Raises RequestError."""
        if request.prompts:
            return (await self.prompts(request, caller))[0]
        _, conversation = await self._in_turn(request, caller, partial(self._conversation, request))
        return conversation.fitted.ids

    async def prompts(self, request: GenerationRequest, caller: Caller) -> list[list[int]]:
        """Return the ids of the prompts that are the client's own. Raises RequestError."""
        model = self._engine.model
        return await self._in_turn(
            request, caller, lambda: [raw_prompts.encode(prompt, model) for prompt in request.prompts]
        )

    async def _in_turn(self, request: GenerationRequest, caller: Caller, work: Callable[[], _T]) -> _T:
        """Return what `work` makes of the request's texts: in a thread, in turn, where they are long."""
        if _is_long(request):
            return await self._turns.run(caller, work)
        return work()

    def _conversation(self, request: GenerationRequest) -> tuple[GenerationRequest, Conversation]:
        """Return the request with the form that its answer must have, and its conversation as it fits."""
        request = replace(request, messages=tools.as_text(request.messages))
        fitted = self._fitted(request)
        offer, dropped = tool_offer.decide(request, fitted, self._engine.model, self._settings)
        if offer is not None:
            system = self._style.system if isinstance(self._style, TurnStyle) else ""
            messages = tool_offer.add_offer(request.messages, offer, system)
            request = replace(request, messages=messages, constraint=offer.constraint)
            fitted = self._fitted(request)
        return request, Conversation(fitted, offer, dropped)

    def _fitted(self, request: GenerationRequest) -> history.Fitted:
        encode = partial(self._encode, request)
        return history.fit(request.messages, self._budget(request), self._engine.model, encode)

    def _encode(self, request: GenerationRequest, messages: Iterable[InputMessage]) -> list[int]:
        segments = template.render(
            [_message(message) for message in messages],
            self._style,
            request.image_place or self._place,
            continued=request.continued,
        )
        return tokens.encode(segments, self._engine.model, request.param)

    def _budget(self, request: GenerationRequest) -> history.Budget:
        policy = request.image_history or self._settings.image_history
        wanted = [request.sampling[name] for name in MAX_TOKENS if name in request.sampling]
        reserve = min([history.RESERVE, *wanted])
        return history.Budget(
            policy,
            self._settings.max_images,
            reserve,
            request.drop_turns,
            request.param,
            self._settings.image_overflow,
        )


def _message(message: InputMessage) -> template.PromptMessage:
    return template.PromptMessage(
        "user" if message.role == "tool" else message.role,
        tuple(template.SLOT if isinstance(part, InputImage) else part for part in message.parts),
        message.param,
    )


def _is_long(request: GenerationRequest) -> bool:
    """Say whether the request's prompts take long to make; those of tools come with grammars."""
    messages = request.messages
    said = sum(len(part) for message in messages for part in message.parts if isinstance(part, str))
    said += PART * sum(1 + len(message.parts) for message in messages)
    asked = sum(len(prompt.content) for prompt in request.prompts)
    return bool(request.tools) or said + asked > LONG
