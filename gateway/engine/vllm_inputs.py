"""Builds vLLM's engine input from a job: token ids with every image token repeated, and image tensors.

vLLM's renderer does the same, for one request at a time in one thread, through the hub's processor. This is
several times faster, and updates vLLM's image cache: the result of `build` must go to the engine before any
other request does. Tests compare the two. Written against vLLM 0.32.

Before an upgrade: if the engine has lost an image, vLLM 0.32's output handler removes it from the cache at
once. 0.33 queues the removal, and only its renderer drains that queue (`_drain_mm_cache_invalidations`),
which this module bypasses. `tests/engine/test_upgrade.py` fails there.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import torch
from vllm.inputs import tokens_input
from vllm.inputs.engine import mm_input
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    MultiModalKwargsItems,
    PlaceholderRange,
)

from gateway.engine.interface import Job, Model, Picture


class Inputs:
    """Builds the engine's inputs, with vLLM's `renderer` and the model's `dtype`."""

    def __init__(self, renderer: Any, model: Model, dtype: torch.dtype) -> None:
        self._model = model
        self._dtype = dtype
        # This side of vLLM's image cache: it knows what the engine's process has.
        self._cache = renderer.mm_processor_cache
        processor = renderer.get_mm_processor().info.get_hf_processor().image_processor
        # As in transformers: rescaling (by 1/255) and normalising in one step.
        scale = 1 / processor.rescale_factor
        self._shift = torch.tensor(processor.image_mean) * scale
        self._spread = torch.tensor(processor.image_std) * scale

    async def tensors(self, job: Job) -> Mapping[str, torch.Tensor]:
        """Return, by key, the tensors of the job's pictures that the engine lacks, made in a thread."""
        missing = {picture.key: picture for picture in job.pictures if not self._has(picture)}
        if not missing:
            return {}
        return await asyncio.to_thread(
            lambda: {key: self.pixel_values(picture) for key, picture in missing.items()}
        )

    def build(self, job: Job, tensors: Mapping[str, torch.Tensor]) -> Any:
        """Return the input for `job`, given the result of `tensors`."""
        if not job.pictures:
            return tokens_input(job.token_ids, cache_salt=job.cache_salt)
        if self._cache is not None:
            for picture in job.pictures:
                # Adding one picture must not evict another one of the job.
                self._cache.touch_sender_cache_item(picture.key)
        items = [self._item(picture, tensors) for picture in job.pictures]
        ids, places = self._expanded(job.token_ids)
        keys = [picture.key for picture in job.pictures]
        kwargs = MultiModalKwargsItems({"image": items})
        return mm_input(ids, kwargs, {"image": keys}, {"image": places}, cache_salt=job.cache_salt)

    def pixel_values(self, picture: Picture) -> torch.Tensor:
        """Return the picture as (3, side, side), bit for bit as the hub's processor does."""
        side = self._model.image_side
        values = torch.empty((3, side, side), dtype=self._dtype)
        for channel, band in enumerate(picture.pixels.split()):
            plane = torch.frombuffer(bytearray(band.tobytes()), dtype=torch.uint8).float()
            plane.sub_(self._shift[channel]).div_(self._spread[channel])
            values[channel] = plane.view(side, side)
        return values

    def _has(self, picture: Picture) -> bool:
        return self._cache is not None and bool(self._cache.is_cached_item(picture.key))

    def _item(self, picture: Picture, tensors: Mapping[str, torch.Tensor]) -> MultiModalKwargsItem | None:
        """Return the picture's item, or None if the engine has it, and update the cache."""
        if self._has(picture):
            item = None
        else:
            values = tensors.get(picture.key)
            if values is None:  # It was evicted after `tensors` looked.
                values = self.pixel_values(picture)
            element = MultiModalFieldElem(data=values, field=MultiModalBatchedField())
            item = MultiModalKwargsItem({"pixel_values": element})
        if self._cache is None:
            return item
        # The second item of a pair is for vLLM's renderer, which is not used here.
        kept, _ = self._cache.get_and_update_item(item and (item, []), picture.key)
        return kept

    def _expanded(self, token_ids: list[int]) -> tuple[list[int], list[PlaceholderRange]]:
        """Return `token_ids` with every image token repeated once per patch, and the positions."""
        image, length = self._model.image_token, self._model.tokens_per_image
        expanded: list[int] = []
        places = []
        for token in token_ids:
            if token == image:
                places.append(PlaceholderRange(len(expanded), length))
                expanded += [image] * length
            else:
                expanded.append(token)
        return expanded, places
