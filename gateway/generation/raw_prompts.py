"""Prompts that are the client's own: text or token ids, as they are."""

from dataclasses import replace
from typing import Literal

from gateway.engine.interface import Job, Model
from gateway.errors import ContextLengthExceeded, InvalidValue
from gateway.generation.request import GenerationRequest, RawPrompt
from gateway.generation.sampling import sampling_of
from gateway.prompt import tokens
from gateway.prompt.tokens import SHORTEN

Over = Literal["cut", "refuse"]

MAX_TOKENS = 16  # where the client does not say: OpenAI's default


def encode(prompt: RawPrompt, model: Model) -> list[int]:
    """Return the prompt's ids, `<s>` once and first.

    Raises ContextLengthExceeded, and InvalidValue for an id that is no token or stands for a picture.
    """
    if isinstance(prompt.content, str):
        return tokens.encode([prompt.content], model, prompt.param)
    length = len(prompt.content)
    if length > model.context_length:
        raise ContextLengthExceeded(
            f"{prompt.param}: the prompt has {length} tokens; {SHORTEN}",
            context_length=model.context_length,
            param=prompt.param,
        )
    for place, token in enumerate(prompt.content):
        param = f"{prompt.param}[{place}]"
        if token >= model.vocabulary_size:
            raise InvalidValue(
                f"{param}: the model has {model.vocabulary_size} tokens; got {token}", param=param
            )
        if token == model.image_token:
            raise InvalidValue(
                f"{param}: token {token} stands for a picture; send pictures to /v1/chat/completions",
                param=param,
            )
    ids = list(prompt.content)
    return ids if ids[0] == model.bos_token else [model.bos_token, *ids]


def text(prompt: RawPrompt, model: Model) -> str:
    """Return the prompt's text, as the client wrote it where it did."""
    if isinstance(prompt.content, str):
        return prompt.content
    return model.vocabulary.decode(prompt.content, special=False)


def job(request: GenerationRequest, place: int, ids: list[int], model: Model, over: Over) -> Job:
    """Return the job for the prompt at `place`, whose ids are `ids`; `over` as `sampling_of` has it."""
    left = max(1, model.context_length - len(ids))
    given = {"max_tokens": min(MAX_TOKENS, left), **request.sampling}
    sampling = sampling_of(given, model, len(ids), request.prompts[place].param, over)
    if request.echo:
        sampling = replace(sampling, prompt_logprobs=sampling.logprobs)
    job_id = request.id if len(request.prompts) == 1 else f"{request.id}-{place}"
    return Job(job_id, ids, (), sampling, stream=request.stream)
