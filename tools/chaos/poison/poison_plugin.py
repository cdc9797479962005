"""A plug-in of vLLM that kills the engine as soon as it gets a request with the seed SEED."""

import os
import signal
from typing import Any

SEED = 13131313


def register() -> None:
    """Patch the engine's core; vLLM calls this in each of its processes."""
    from vllm.v1.engine import core  # noqa: PLC0415  # our own process reads SEED and has no need of vLLM

    add_request = core.EngineCore.add_request

    def deadly(self: Any, request: Any, *rest: Any) -> None:
        sampling = request.sampling_params
        if sampling is not None and sampling.seed == SEED:
            os.kill(os.getpid(), signal.SIGKILL)
        add_request(self, request, *rest)

    core.EngineCore.add_request = deadly
