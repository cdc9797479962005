"""The engine alone with a fixed number of requests at once: the limit of any server at that point.

`python -m tools.bench.offline_curve PROFILE OUT SECONDS POINTS KIND…` writes the points by kind to OUT, as
JSON. vLLM's own front end adds the requests and reads the tokens, in one thread and without a server.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Any

from engine_config import profile as profiles
from gateway.engine.interface import Job
from gateway.engine.vllm_model import describe, engine_arguments
from gateway.engine.vocabulary import TokenizerFile
from tools.bench import figures, offline, processes
from tools.bench.bodies import KINDS, SHOTS, endless
from tools.bench.closed_loop import REST, WARM_UP, Point
from tools.bench.figures import Timeline
from tools.bench.servers import StartFailed, max_images, process
from tools.bench.workloads import Ask

START_WITHIN = 300  # seconds
FIRST_ID = 100  # of the tokens that make a prompt unique; there are no control tokens from here on
IDS = 900

Points = dict[str, list[dict[str, Any]]]


def run(profile: str, kinds: Sequence[str], points: Sequence[int], seconds: float, folder: Path) -> Points:
    """Return the points by kind, measured in a separate process."""
    out, log = folder / "engine.json", folder / "engine.log"
    listed = ",".join(map(str, points))
    command = [sys.executable, "-m", __name__, profile, str(out), str(seconds), listed, *kinds]
    with process(command, profile, log) as started:
        code = started.wait(START_WITHIN + (WARM_UP + 1 + REST) * seconds * len(points) * len(kinds))
    if code != 0:
        raise StartFailed(f"the engine alone: exit code {code}\n{log.read_text(errors='replace')[-3000:]}")
    found: Points = json.loads(out.read_text())
    return found


def main(profile_name: str, out: str, seconds: str, points: str, *kinds: str) -> None:
    from vllm import LLM  # noqa: PLC0415  # takes seconds, and the parent does without

    profile = profiles.load(profile_name)
    llm = LLM(**engine_arguments(profile, max_images()))
    vocabulary = TokenizerFile.from_file(Path(profile.model_path) / "tokenizer.json")
    model = describe(profile, llm.llm_engine.model_config, vocabulary)
    found: Points = {}
    for name in kinds:
        asks = [Ask(body) for body in islice(endless(KINDS[name], profile.served_name), SHOTS)]
        prompts = unique(asyncio.run(offline.jobs_of(asks, model, profile)))
        for at_once in map(int, points.split(",")):
            point = measure(llm.llm_engine, prompts, KINDS[name].tokens, at_once, float(seconds))
            found.setdefault(name, []).append(point.as_json())
    Path(out).write_text(json.dumps(found))
    llm.llm_engine.engine_core.shutdown()


def unique(jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
    """Yield vLLM's prompts for `jobs`, again and again, but no two alike: nothing comes from a cache."""
    for number in count():
        job = jobs[number % len(jobs)]
        if job.pictures:
            yield {
                "prompt_token_ids": list(job.token_ids),
                "multi_modal_data": {"image": [picture.pixels for picture in job.pictures]},
                "multi_modal_uuids": {"image": [f"{number}"]},
            }
        else:
            ids = list(job.token_ids)
            ids[1:3] = FIRST_ID + number // IDS % IDS, FIRST_ID + number % IDS  # after `<s>`
            yield {"prompt_token_ids": ids}


def measure(
    engine: Any, prompts: Iterator[dict[str, Any]], tokens: int, at_once: int, seconds: float
) -> Point:
    """Return the point of vLLM's `engine` with `at_once` requests at once, as `closed_loop.measure` does."""
    from vllm import SamplingParams  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    sampling = SamplingParams(
        max_tokens=tokens,
        min_tokens=tokens,
        ignore_eos=True,
        temperature=0,
        output_kind=RequestOutputKind.DELTA,
    )
    sent: dict[str, float] = {}
    content: dict[str, list[float]] = {}
    going, number = set[str](), 0

    def step(*, add: bool) -> int:
        nonlocal number
        while add and len(going) < at_once:
            name = f"{number}"
            number += 1
            sent[name], content[name] = perf_counter(), []
            going.add(name)
            engine.add_request(name, next(prompts), sampling)
        outputs, now = engine.step(), perf_counter()
        for output in outputs:
            content[output.request_id].extend([now] * len(output.outputs[0].token_ids))
            if output.finished:
                going.discard(output.request_id)
        return sum(output.finished for output in outputs)

    began, answered = perf_counter(), 0
    while answered < at_once and perf_counter() - began < WARM_UP * seconds:
        answered += step(add=True)
    with processes.use(os.getpgid(0)) as used:
        begin = perf_counter()
        while perf_counter() - begin < seconds:
            step(add=True)
        end = perf_counter()
    while going:
        step(add=False)
    lines = [Timeline(sent[name], end, tuple(content[name]), tokens) for name in sent]
    inside = sum(begin <= line.sent < end for line in lines)
    return Point(
        at_once,
        end - begin,
        figures.of_window(lines, begin, end),
        used.cores,
        used.peak,
        inside,
        0,
        answered >= at_once,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
