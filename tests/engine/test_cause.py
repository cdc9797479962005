"""vLLM's errors name vLLM's id of the request."""

import traceback
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from engine_config.profile import load
from gateway.engine.interface import Job, Sampling
from gateway.engine.vllm_engine import VLLMEngine
from gateway.engine.vocabulary import TokenizerFile
from gateway.errors import EngineDied, GenerationFailed

JOB = Job("chatcmpl-1", [1], (), Sampling(max_tokens=1), trace_headers={"traceparent": "00-…"})


class Broken:
    errored = False

    def generate(self, *_: Any, **named: Any) -> AsyncGenerator[Any]:
        assert named["trace_headers"] == {"traceparent": "00-…"}

        async def outputs() -> AsyncGenerator[Any]:
            raise RuntimeError("a bug of vLLM's")
            yield

        return outputs()


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # vLLM's imports
async def test_a_failure_of_vllms_names_its_request() -> None:
    engine = VLLMEngine(load("demo"), 7)
    engine._llm = Broken()
    engine._vocabulary = TokenizerFile(Tokenizer(models.BPE()))

    async def tensors(_: Job) -> None: ...

    engine._inputs = SimpleNamespace(tensors=tensors, build=lambda *_: {"prompt_token_ids": [1]})
    with pytest.raises(GenerationFailed) as caught:
        _ = [delta async for delta in engine.generate(JOB)]
    told = "".join(traceback.format_exception(caught.value))
    assert "a bug of vLLM's" in told
    assert "vLLM's request: chatcmpl-1-0" in told


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # vLLM's imports
async def test_a_job_whose_engine_ends_while_its_pictures_are_made_ready_can_run_on_the_next() -> None:
    engine = VLLMEngine(load("demo"), 7)
    engine._vocabulary = TokenizerFile(Tokenizer(models.BPE()))

    async def tensors(_: Job) -> None:
        await engine.shutdown()

    engine._inputs = SimpleNamespace(tensors=tensors, build=lambda *_: {"prompt_token_ids": [1]})
    with pytest.raises(EngineDied):
        _ = [delta async for delta in engine.generate(JOB)]
