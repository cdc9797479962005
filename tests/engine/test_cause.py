"""What vLLM raises is told with vLLM's id of the request."""

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
from gateway.errors import GenerationFailed


class Broken:
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

    engine._inputs = SimpleNamespace(tensors=tensors, of=lambda *_: {"prompt_token_ids": [1]})
    job = Job("chatcmpl-1", [1], (), Sampling(max_tokens=1), trace_headers={"traceparent": "00-…"})
    with pytest.raises(GenerationFailed) as caught:
        _ = [delta async for delta in engine.generate(job)]
    told = "".join(traceback.format_exception(caught.value))
    assert "a bug of vLLM's" in told
    assert "vLLM's request: chatcmpl-1-0" in told
