"""Checks constraints for vLLM's `guidance` backend (llguidance), in which every step has a bounded cost.

A constraint is compiled here before its job is sent, so that vLLM's process never compiles an expensive one.
llguidance can also reach a limit in the middle of an answer, which vLLM then ends as if it were complete. So
the generated tokens are checked here too. Written against vLLM 0.32 and llguidance 1.7.
"""

import asyncio
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import llguidance
import llguidance.hf
import structlog

from gateway.engine.interface import Constraint
from gateway.errors import InvalidValue, Overloaded

MAX_CPU_SECONDS = 0.25  # to compile a constraint, and to follow one answer
PATIENCE = 5.0  # seconds that a request waits for the result, queueing included
THREADS = 2  # One may be stuck: a compilation cannot be interrupted.
KEPT = 128  # results
SHOWN = 100  # characters of a pattern that an error repeats

# llguidance's error for a pattern: `^` marks the wrong part on the next line.
_BAD_PATTERN = re.compile(r"regex parse error:\n    (.*)\n    ( *)(\^+)\nerror: (.*)")

# A matcher at its start, or what is wrong with the constraint.
Result: TypeAlias = "llguidance.LLMatcher | str"

log = structlog.get_logger()


class Constraints:
    """Compiles constraints for one model, THREADS at a time, and caches the results."""

    def __init__(self, tokenizer: Any, vocabulary_size: int) -> None:
        """Take Hugging Face's fast `tokenizer`; `vocabulary_size` is the number of the model's logits."""
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, max(vocabulary_size, len(tokenizer)))
        self._known: OrderedDict[Constraint, Result] = OrderedDict()
        self._compiling: dict[Constraint, _Compilation] = {}
        self._threads = ThreadPoolExecutor(THREADS, "constraints")

    async def check(self, constraint: Constraint) -> None:
        """Raise InvalidValue if `constraint` cannot be used, Overloaded if the result takes too long."""
        await self._matcher(constraint)

    async def follow(self, constraint: Constraint) -> "Followed":
        """Return a checker for one job's answer. Raises the errors of `check`."""
        return Followed(constraint, await self._matcher(constraint))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _matcher(self, constraint: Constraint) -> llguidance.LLMatcher:
        found = self._known.get(constraint)
        if found is None:
            found = await self._compiled(constraint)
        else:
            self._known.move_to_end(constraint)
        if isinstance(found, str):
            raise InvalidValue(f"{constraint.param}: {found}", param=constraint.param)
        return found

    async def _compiled(self, constraint: Constraint) -> Result:
        """Return the result of a compilation, shared with other requests. Raises Overloaded if it is late."""
        compilation = self._compiling.get(constraint)
        if compilation is None or compilation.dropped:
            compilation = self._compiling[constraint] = _Compilation(partial(self._compile, constraint))
            result = compilation.begin(self._threads)
            result.add_done_callback(partial(self._finish, constraint, compilation))
        try:
            async with compilation, asyncio.timeout(PATIENCE):
                return await asyncio.shield(compilation.result)
        except TimeoutError:
            # Only its own CPU time counts against it; the machine may be busy otherwise.
            if compilation.seconds() <= MAX_CPU_SECONDS:
                raise Overloaded("the gateway is busy compiling schemas") from None
            log.warning("constraint_slow", param=constraint.param, bytes=len(constraint.grammar))
            wrong = f"it takes over {MAX_CPU_SECONDS} s of CPU to compile; make it simpler"
            self._keep(constraint, wrong)
            return wrong

    def _finish(
        self,
        constraint: Constraint,
        compilation: "_Compilation",
        result: asyncio.Future[Result],
    ) -> None:
        """Cache the result, even if no request waits for it any more."""
        if self._compiling.get(constraint) is compilation:
            del self._compiling[constraint]
        if not result.cancelled() and result.exception() is None:
            self._keep(constraint, result.result())

    def _keep(self, constraint: Constraint, result: Result) -> None:
        self._known[constraint] = result
        self._known.move_to_end(constraint)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)

    def _compile(self, constraint: Constraint) -> Result:
        """Return the matcher, or what is wrong with `constraint`."""
        began = time.thread_time()
        try:
            # As vLLM's backend does with `StructuredOutputsParams.grammar`.
            grammar = llguidance.grammar_from("grammar", constraint.grammar)
            matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        except ValueError as error:
            return _wrong(str(error))
        if matcher.is_error():
            return _wrong(matcher.get_error())
        trial = matcher.deep_copy()
        trial.compute_bitmask()  # The first token's is often the most expensive.
        if trial.is_error():
            return f"it is too complex: {_wrong(trial.get_error())}"
        seconds = time.thread_time() - began
        if seconds > MAX_CPU_SECONDS:
            return f"it takes {seconds:.1f} s of CPU to compile; the limit is {MAX_CPU_SECONDS} s"
        return matcher


class _Compilation:
    """A compilation; `async with` waits for it. Cancelled if no request waits before it starts."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._waiting = 0
        self.dropped = False
        self._clock: int | None = None  # CPU clock of the compiling thread
        self._before = 0.0  # seconds on that clock at the start
        self._future: Future[Result] = Future()

    def begin(self, threads: ThreadPoolExecutor) -> asyncio.Future[Result]:
        """Queue it for `threads` and return its result."""
        self._future = threads.submit(self._run)
        self.result = asyncio.wrap_future(self._future)
        return self.result

    def seconds(self) -> float:
        """Return the CPU seconds it has used; 0 if it is queued or has ended."""
        if self._clock is None:
            return 0.0
        with suppress(OSError):  # the thread has just ended
            return time.clock_gettime(self._clock) - self._before
        return 0.0

    async def __aenter__(self) -> None:
        self._waiting += 1

    async def __aexit__(self, *_: object) -> None:
        self._waiting -= 1
        if not self._waiting:
            self.dropped = self._future.cancel()  # fails once it has started

    def _run(self) -> Result:
        self._clock, self._before = time.pthread_getcpuclockid(threading.get_ident()), time.thread_time()
        try:
            return self._work()
        finally:
            self._clock = None


class Followed:
    """Checks the choices of one job against its constraint.

    The engine's step spends as much on checking, so an answer that becomes too expensive is ended: the cost
    of an ambiguous grammar grows with the cube of the answer's length.
    """

    def __init__(self, constraint: Constraint, matcher: llguidance.LLMatcher) -> None:
        self._param = constraint.param
        self._matcher = matcher
        self._choices: dict[int, llguidance.LLMatcher] = {}
        self._seconds = 0.0

    def take(self, output: Any) -> None:
        """Check one of vLLM's outputs.

        Raises InvalidValue if an answer ended too early or has cost too much.
        """
        began = time.thread_time()
        for choice in output.outputs:
            matcher = self._choices.get(choice.index)
            if matcher is None:
                matcher = self._choices[choice.index] = self._matcher.deep_copy()
            for token in choice.token_ids:
                if matcher.is_stopped() or not matcher.try_consume_tokens([token]):
                    break
            if _ended_early(choice, matcher):
                raise self._error("it is too complex to constrain an answer")
        self._seconds += time.thread_time() - began
        if self._seconds > MAX_CPU_SECONDS:
            raise self._error(f"checking the answer takes over {MAX_CPU_SECONDS} s of CPU; make it simpler")

    def _error(self, wrong: str) -> InvalidValue:
        return InvalidValue(f"{self._param}: {wrong}", param=self._param)


def _ended_early(choice: Any, matcher: llguidance.LLMatcher) -> bool:
    """Return whether vLLM ended an incomplete answer, as it does if llguidance reaches a limit."""
    if choice.finish_reason == "error" and choice.token_ids:
        return True
    # The client's stop strings and stop tokens may end an answer anywhere.
    if choice.finish_reason != "stop" or choice.stop_reason is not None:
        return False
    return bool(matcher.is_error()) or not matcher.is_accepting()


def _wrong(error: str) -> str:
    """Return llguidance's error on one line; for a pattern, with the part it rejects."""
    if found := _BAD_PATTERN.search(error):
        pattern, before, marks, reason = found.groups()
        part = pattern[len(before) : len(before) + len(marks)]
        # llguidance writes patterns between slashes, with slashes inside escaped.
        pattern, part = pattern.replace("\\/", "/"), part.replace("\\/", "/")
        return f"the pattern '{pattern[:SHOWN]}' is wrong at '{part[:SHOWN]}': {reason}"
    line = error.strip().partition("\n")[0]
    _, _, reason = line.rpartition("failed to compile JSON schema: ")
    # "Fuel" is llguidance's unit of work.
    return f"it is too complex: {reason[:300]}" if reason.startswith("fuel exhausted") else reason[:300]
