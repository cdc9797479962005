"""An engine whose core is forked from its process, vLLM's default on a GPU, starts and answers."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.proof]

# On a CPU vLLM spawns regardless of the variable, so its context is replaced.
PROGRAM = """
import asyncio
import multiprocessing

from engine_config.profile import load
from gateway.engine.interface import Job, Sampling
from gateway.engine.vllm_engine import VLLMEngine


async def main():
    import vllm.v1.engine.utils as starter

    methods = []

    def forked():
        methods.append("fork")
        return multiprocessing.get_context("fork")

    starter.get_mp_context = forked
    engine = VLLMEngine(load("demo"), 7)
    await engine.start()
    job = Job("chatcmpl-1", [1, 2, 3], (), Sampling(max_tokens=3, ignore_eos=True))
    tokens = sum([delta.tokens async for delta in engine.generate(job)])
    await engine.shutdown()
    print(methods, tokens)


asyncio.run(main())
"""


def test_an_engine_with_a_forked_core_answers() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout == "['fork'] 3\n", done.stderr[-3000:]
