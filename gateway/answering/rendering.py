"""What the model gets for a chat request: its prompt, its images as the model gets them, its sampling."""

import asyncio
import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

from gateway.access.limits import Account
from gateway.access.memory_budgets import ReserveMemory
from gateway.answering.prepare import Pipeline
from gateway.engine.interface import Model, Picture, Sampling
from gateway.generation.request import GenerationRequest
from gateway.schema.render import Dropped, Rendered, RenderedImage, Segment
from gateway.settings import Fit

DRAWN = 8  # bytes for each pixel: of a PNG of noise and its base64, and half of the pixels' own four


async def render(
    pipeline: Pipeline,
    request: GenerationRequest,
    fits: Sequence[Fit] | None,
    account: Account,
    reserve: ReserveMemory,
) -> Rendered:
    """Return what the engine would be given for `request`, its images also in each of `fits`.

    The prompt and images count on `account` once. Images at URLs are fetched once for each fit.
    memory for them is reserved. Raises RequestError, as answering would.
    """
    fit = request.image_fit or pipeline.image_fit
    prepared = await pipeline.prepare(request, account)
    pictures = {fit: prepared.job.pictures}
    pixels = len(prepared.job.pictures) * pipeline.model.image_side**2
    await reserve(pixels * len({fit, *(fits or ())}) * DRAWN)
    for other in dict.fromkeys(fits or ()):
        if other != fit:
            again = await pipeline.prepare(replace(request, image_fit=other), Account(account.caller))
            pictures[other] = again.job.pictures
    model = pipeline.model
    segments = list(_segments(prepared.job.token_ids, model))
    tokens, pieces = _expanded(prepared.job.token_ids, model)
    drawn = await asyncio.to_thread(_drawn, {name: pictures[name] for name in fits or (fit,)})
    slots = [segment for segment in segments if segment.type == "image"]
    return Rendered(
        model=prepared.model,
        prompt="".join(segment.text for segment in segments),
        tokens=tokens,
        token_strs=pieces,
        segments=segments,
        prompt_tokens=len(tokens),
        context_length=model.context_length,
        images=[
            RenderedImage(slot.offset, slot.length, model.image_side, model.image_side, by_fit)
            for slot, by_fit in zip(slots, drawn, strict=True)
        ],
        image_fit=fit,
        dropped=Dropped(prepared.dropped_images, prepared.dropped_messages, prepared.dropped_tools),
        sampling=_sampling_shown(prepared.job.sampling),
    )


def _kind(token: int, model: Model) -> str:
    if token == model.image_token:
        return "image"
    return "special" if token in (model.bos_token, model.eos_token) else "text"


def _segments(ids: Sequence[int], model: Model) -> Iterator[Segment]:
    """Yield the prompt's runs. Text is decoded run by run, as it was encoded."""
    offset = 0
    for kind, run in groupby(ids, lambda token: _kind(token, model)):
        if kind == "text":
            found = list(run)
            yield Segment("text", model.vocabulary.decode(found, special=False), offset, len(found))
            offset += len(found)
            continue
        for token in run:
            if kind == "image":
                yield Segment("image", "<image>", offset, model.tokens_per_image)
                offset += model.tokens_per_image
            else:
                yield Segment("special", model.vocabulary.decode([token], special=True), offset, 1)
                offset += 1


def _expanded(ids: Sequence[int], model: Model) -> tuple[list[int], list[str]]:
    """Return the ids with each image token as often as the engine has it, and how each is spelt."""
    tokens: list[int] = []
    pieces: list[str] = []
    for image, run in groupby(ids, lambda token: token == model.image_token):
        found = list(run)
        if image:
            found *= model.tokens_per_image
        tokens += found
        pieces += ["<image>"] * len(found) if image else model.vocabulary.pieces(found)
    return tokens, pieces


def _drawn(pictures: dict[Fit, tuple[Picture, ...]]) -> list[dict[Fit, str]]:
    """Return each image's PNG data URLs by fit, in the order of the prompt."""
    rows = zip(*pictures.values(), strict=True)
    return [{fit: _png(picture) for fit, picture in zip(pictures, row, strict=True)} for row in rows]


def _png(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.pixels.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _sampling_shown(sampling: Sampling) -> dict[str, Any]:
    shown = asdict(sampling)
    shown["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.constraint is not None:
        shown["constraint"] = {"param": sampling.constraint.param, "grammar": sampling.constraint.grammar}
    return shown
