"""The engine alone, `vllm.LLM.generate` with no server before it: the limit of any.

`python -m tools.bench.offline PROFILE OUT WORKLOAD…` writes requests a second by workload to OUT, as JSON.
The engine gets the very jobs that the gateway would give it: token ids, and square pictures with their keys.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any, cast

from engine_config import profile as profiles
from engine_config.profile import EngineProfile
from gateway.access.callers import Caller
from gateway.access.keys import CallerClass
from gateway.access.limits import Account
from gateway.access.memory_budgets import MemoryBudgets
from gateway.answering.prepare import Pipeline
from gateway.engine.interface import Job, Model
from gateway.engine.supervisor import Supervisor
from gateway.engine.vllm_model import describe, engine_arguments
from gateway.engine.vocabulary import TokenizerFile
from gateway.generation import chat
from gateway.images.loader import PictureLoader
from gateway.schema.chat_request import ChatCompletionRequest
from gateway.schema.validation import parse
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from tools.bench.servers import StartFailed, max_images, process
from tools.bench.workloads import WORKLOADS, Ask, Load

MEASURED = ("text-32", "jpeg-336")  # what has a target against the engine alone
LIMIT = 600  # seconds


def run(profile: str, names: Sequence[str], folder: Path) -> dict[str, float]:
    """Return requests a second of workloads `names`, measured in a process of its own."""
    out, log = folder / "offline.json", folder / "offline.log"
    command = [sys.executable, "-m", "tools.bench.offline", profile, str(out), *names]
    with process(command, profile, log) as started:
        code = started.wait(LIMIT)
    if code != 0:
        raise StartFailed(f"the engine alone: exit code {code}\n{log.read_text(errors='replace')[-3000:]}")
    rates: dict[str, float] = json.loads(out.read_text())
    return rates


def main(profile_name: str, out: str, *names: str) -> None:
    from vllm import LLM  # noqa: PLC0415  # takes seconds, and the parent does without

    profile = profiles.load(profile_name)
    llm = LLM(**engine_arguments(profile, max_images()))
    vocabulary = TokenizerFile.from_file(Path(profile.model_path) / "tokenizer.json")
    model = describe(profile, llm.llm_engine.model_config, vocabulary)
    rates = {}
    for name in names:
        plan = WORKLOADS[name].make(profile.served_name, WORKLOADS[name].size.full)
        assert isinstance(plan, Load)
        _generate(llm, asyncio.run(jobs_of(plan.warm_up, model, profile)))
        jobs = asyncio.run(jobs_of([ask for (ask,) in plan.conversations], model, profile))
        began = perf_counter()
        _generate(llm, jobs)
        rates[name] = len(jobs) / (perf_counter() - began)
    Path(out).write_text(json.dumps(rates))
    llm.llm_engine.engine_core.shutdown()


def _generate(llm: Any, jobs: Sequence[Job]) -> None:
    from vllm import SamplingParams  # noqa: PLC0415

    prompts = [
        {
            "prompt_token_ids": job.token_ids,
            "multi_modal_data": {"image": [picture.pixels for picture in job.pictures]},
            "multi_modal_uuids": {"image": [picture.key for picture in job.pictures]},
        }
        if job.pictures
        else {"prompt_token_ids": job.token_ids}
        for job in jobs
    ]
    tokens = jobs[0].sampling.max_tokens
    sampling = SamplingParams(max_tokens=tokens, min_tokens=tokens, ignore_eos=True, temperature=0)
    for output in llm.generate(prompts, sampling, use_tqdm=False):
        assert len(output.outputs[0].token_ids) == tokens, output


async def jobs_of(asks: Sequence[Ask], model: Model, profile: EngineProfile) -> list[Job]:
    settings, metrics = Settings.model_validate({}), Metrics()
    loader = PictureLoader(settings, metrics, MemoryBudgets(settings, metrics))
    account = Account(Caller("bench", "", CallerClass()))
    # Of an engine, a job needs the model's description alone.
    engine = cast("Supervisor", SimpleNamespace(model=model))
    pipeline = Pipeline(engine, loader, profile, settings, metrics)
    jobs = [
        (
            await pipeline.prepare(
                chat.read(parse(ask.body, ChatCompletionRequest), str(number), ""), account
            )
        ).job
        for number, ask in enumerate(asks)
    ]
    await loader.close()
    return jobs


if __name__ == "__main__":
    main(*sys.argv[1:])
