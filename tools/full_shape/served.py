"""A gateway in a process of its own, on the real engine, with a model of LLaVA-1.5-7B's shape."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from engine_config import machine
from engine_config.plan import fit
from engine_config.profile import EngineProfile
from tests.servers import READY_WITHIN, Gateway, served_gateway
from tools.full_shape.shape import CONTEXT, Shape

NAME = "llava-shape"
PROFILE = """
summary = "LLaVA-1.5-7B's shape with random weights."
model = "{model}"
served_name = "{name}"
download_gb = 0.0
prompt_style = "card"
image_fit = "pad"
image_place = "auto"
device = "cpu"

[engine]
dtype = "{dtype}"
max_model_len = {context}
max_num_seqs = 16
gpu_memory_utilization = 0.5
enforce_eager = true
mm_processor_cache_gb = 0.5
distributed_executor_backend = "vllm.v1.executor.uniproc_executor.UniProcExecutor"

[environment]
VLLM_CPU_KVCACHE_SPACE = {kv_gib}
"""


@dataclass(frozen=True)
class Plan:
    """What is served: the shape, what it computes in, and the room for keys and values."""

    shape: Shape
    dtype: Literal["float32", "bfloat16"]
    kv_gib: int

    @property
    def kv_tokens(self) -> int:
        """Return for how many tokens the KV cache has room, as `engine_config` plans it."""
        profile = EngineProfile(name="shape", **tomllib.loads(self.profile(Path("unused"))))
        return fit(profile, self.shape.known, machine.look()).kv_tokens

    def profile(self, model: Path) -> str:
        """Return the profile, as TOML, that serves the model in that folder so."""
        return PROFILE.format(model=model, name=NAME, dtype=self.dtype, context=CONTEXT, kv_gib=self.kv_gib)


@dataclass(frozen=True)
class Served:
    """A gateway that serves `plan`, and an OpenAI client of it."""

    plan: Plan
    gateway: Gateway
    client: AsyncOpenAI

    async def ask(self, *messages: Any, **options: Any) -> ChatCompletion:
        """Return the greedy answer; no end token ends it."""
        extra = {"ignore_eos": True, **options.pop("extra_body", {})}
        reply: ChatCompletion = await self.client.chat.completions.create(
            model=NAME, messages=messages, temperature=0, extra_body=extra, **options
        )
        return reply


def user(text: str, *urls: str) -> dict[str, Any]:
    """Return a user's message: the images first, then the text."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


@contextmanager
def serve(plan: Plan, model: Path, folder: Path, ready_within: float = READY_WITHIN) -> Iterator[Gateway]:
    """Serve the model in the folder `model` as `plan` says; profile and log are written into `folder`."""
    profile = folder / "shape.toml"
    profile.write_text(plan.profile(model))
    # Images may be fetched from this machine, where the checks have a server that counts what is asked of it.
    # A full context takes minutes on a CPU.
    patience = {"request_timeout": "3600", "stall_timeout": "3600"}
    with served_gateway(
        folder, profile=str(profile), fetch_allow="127.0.0.1", ready_within=ready_within, **patience
    ) as gateway:
        yield gateway
