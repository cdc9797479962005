"""The gateway's engine inputs equal those of vLLM's renderer, tensor for tensor."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine_config import profile as profiles
from engine_config.profile import EngineProfile
from gateway.engine.interface import Job, Picture, Sampling
from gateway.engine.vllm_model import describe, engine_arguments
from gateway.engine.vocabulary import TokenizerFile

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

JOBS = {
    "no picture": [],
    "one": ["a"],
    "one again, and others": ["b", "a", "c"],
    "the same twice": ["d", "d"],
    "all known": ["c", "a"],
}


def picture(name: str) -> Picture:
    """Return an image of noise, the same each time for a name."""
    noise = np.random.default_rng(ord(name)).integers(0, 256, (336, 336, 3), dtype=np.uint8)
    return Picture(Image.fromarray(noise), name)


def job(names: list[str], image: int) -> Job:
    """Return a job with the images `names` and words between them."""
    ids = [1, 300]
    for name in names:
        ids += [image, 300 + ord(name)]
    return Job("job", ids, tuple(picture(name) for name in names), Sampling(max_tokens=1))


@pytest.fixture(scope="module")
def renderer() -> Callable[[float], Any]:
    """Return a function that makes vLLM's renderer with a cache of that many GiB."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.renderers import renderer_from_config

    def make(cache_gib: float) -> Any:
        arguments = engine_arguments(profiles.load("demo"), 4) | {"mm_processor_cache_gb": cache_gib}
        return renderer_from_config(AsyncEngineArgs(**arguments).create_engine_config())

    return make


def inputs_of(renderer: Any) -> Any:
    """Return the gateway's `Inputs` with the cache of `renderer`."""
    from gateway.engine.vllm_inputs import Inputs

    profile: EngineProfile = profiles.load("demo")
    settings = renderer.model_config
    vocabulary = TokenizerFile.from_file(Path(profile.model_path) / "tokenizer.json")
    return Inputs(renderer, describe(profile, settings, vocabulary), settings.dtype)


@pytest.mark.parametrize("cache_gib", [0.0, 0.5, 0.003], ids=["no cache", "cache", "cache for two"])
def test_the_engine_gets_what_vllms_renderer_would_give_it(
    renderer: Callable[[float], Any], cache_gib: float
) -> None:
    theirs, ours = renderer(cache_gib), inputs_of(renderer(cache_gib))
    image = ours._model.image_token
    for name, shown in JOBS.items():
        asked = job(shown, image)
        (wanted,) = theirs.render_cmpl([prompt(asked)])
        got = ours.build(asked, asyncio.run(ours.tensors(asked)))
        assert got == {key: value for key, value in wanted.items() if key != "arrival_time"}, name
        assert held(ours._cache) == held(theirs.mm_processor_cache), name


def prompt(asked: Job) -> dict[str, Any]:
    """Return the prompt for vLLM's renderer."""
    if not asked.pictures:
        return {"prompt_token_ids": asked.token_ids}
    return {
        "prompt_token_ids": asked.token_ids,
        "multi_modal_data": {"image": [one.pixels for one in asked.pictures]},
        "multi_modal_uuids": {"image": [one.key for one in asked.pictures]},
    }


def held(cache: Any) -> list[tuple[str, float]] | None:
    """Return the keys in vLLM's cache with their sizes, the next to be evicted first."""
    if cache is None:
        return None
    lru = cache._cache
    return [(key, lru.getsizeof(item)) for key, item in lru.cache.items()]
