"""`python -m tools.bench.unbounded`: what some small requests would cost without the gateway's limits.

Each is tried in a process of its own, which may take 25 s of CPU.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import llguidance.hf
import orjson
import xgrammar
from PIL import Image
from transformers import PreTrainedTokenizerFast

from tests.images.test_avif import with_items
from tests.prompt.llama import LlamaTokenizerJS

MOST = 25  # seconds of CPU
VOCABULARY = 32_064  # of LLaVA-1.5-7B
SPACES = "▁" * 16  # a token of Llama's, which the answer is made of
PATTERN = "(.{1,1000}){1,1000}"
MULTIPLE = {"multipleOf": 1_000_003}


def avif_items(_: Path) -> str:
    """Read a megabyte of 50,000 items, which libavif searches for each that it reads."""
    data = with_items(50_000)
    began = time.process_time()
    with suppress(RuntimeError):  # It is broken, which is found out at the end.
        Image.open(BytesIO(data)).load()
    return f"{time.process_time() - began:.1f} s"


def by_xgrammar(folder: Path) -> str:
    """Follow the pattern with vLLM's default backend."""
    tokenizer = llama(folder)
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=VOCABULARY)
    matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(info).compile_regex(PATTERN))
    mask = xgrammar.allocate_token_bitmask(1, VOCABULARY)
    token = tokenizer.convert_tokens_to_ids(SPACES)
    return longest(lambda: bool(matcher.fill_next_token_bitmask(mask)) and matcher.accept_token(token))


def by_llguidance(folder: Path) -> str:
    """Follow the pattern with the backend that the gateway uses."""
    tokenizer = llama(folder)
    grammar = llguidance.grammar_from("regex", PATTERN)
    matcher = llguidance.LLMatcher(llguidance.hf.from_tokenizer(tokenizer, VOCABULARY), grammar, log_level=0)
    token = tokenizer.convert_tokens_to_ids(SPACES)
    return longest(lambda: bool(matcher.compute_logit_bias()) and matcher.consume_token(token))


def slow_to_compile(folder: Path) -> str:
    """Compile a schema of a few bytes, as the engine would."""
    tokenizer = llguidance.hf.from_tokenizer(llama(folder), VOCABULARY)
    grammar = llguidance.grammar_from("json_schema", orjson.dumps(MULTIPLE).decode())
    began = time.process_time()
    llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    return f"{time.process_time() - began:.1f} s"


TRIALS: dict[str, Callable[[Path], str]] = {
    "AVIF of 50,000 items": avif_items,
    f"schema {MULTIPLE}": slow_to_compile,
    f"pattern {PATTERN} in llguidance": by_llguidance,
    f"pattern {PATTERN} in xgrammar": by_xgrammar,
}


def llama(folder: Path) -> Any:
    """Return Llama's tokenizer as transformers has it."""
    tokenizer = LlamaTokenizerJS.install(folder).tokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def longest(step: Callable[[], bool]) -> str:
    """Say what the longest of up to 100 steps took; a step that is refused ends them."""
    times = []
    for _ in range(100):
        began = time.process_time()
        goes_on = step()
        times.append(time.process_time() - began)
        sys.stdout.write(f"  step {len(times)}: {times[-1]:.3f} s\n")
        sys.stdout.flush()
        if not goes_on:
            break
    return f"{len(times)} steps, the longest {max(times):.3f} s"


def trial(name: str, folder: Path) -> None:
    """Run one in this process."""
    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + MOST, int(used) + MOST))
    sys.stdout.write(f"{name}: {TRIALS[name](folder)}\n")
    sys.stdout.flush()


def main() -> None:
    """Run all, each in a process."""
    with tempfile.TemporaryDirectory() as folder:
        LlamaTokenizerJS.install(Path(folder))
        for name in TRIALS:
            process = get_context("spawn").Process(target=trial, args=(name, Path(folder)))
            process.start()
            process.join()
            if process.exitcode:
                sys.stdout.write(f"{name}: ended after {MOST} s, in the step after the last that is told\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
