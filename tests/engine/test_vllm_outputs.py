"""vLLM's errors are translated for clients, and log probabilities are kept cheap."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.interface import Job, Sampling
from gateway.errors import EngineDied, GatewayError, GenerationFailed, InvalidValue

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def outputs() -> Any:
    return importlib.import_module("gateway.engine.vllm_outputs")  # it imports vLLM


@pytest.mark.parametrize(("begun", "kind"), [(False, InvalidValue), (True, GenerationFailed)])
def test_only_an_answer_that_has_not_begun_can_be_refused(
    outputs: Any, begun: bool, kind: type[GatewayError]
) -> None:
    assert type(outputs.translated(ValueError("x"), begun=begun)) is kind


def test_an_engine_can_die_at_any_time(outputs: Any) -> None:
    assert type(outputs.translated(outputs.EngineDeadError(), begun=True)) is EngineDied


@pytest.mark.parametrize("of_prompt", [None, 20])
def test_log_probabilities_are_kept_as_plain_numbers_and_their_tokens_not_decoded(
    outputs: Any, of_prompt: int | None
) -> None:
    """An answer has up to 200,000: as objects, or decoded one by one, they would stall the event loop."""
    sampling = importlib.import_module("gateway.engine.vllm_sampling")
    asked = SimpleNamespace(
        sampling_params=sampling.sampling_params(
            Job("job", [1], (), Sampling(1, logprobs=20, prompt_logprobs=of_prompt))
        )
    )
    outputs.without_words()
    made = outputs.LogprobsProcessor.from_new_request(tokenizer=SimpleNamespace(), request=asked)
    assert made.tokenizer is None
    assert type(made.logprobs).__name__ == "FlatLogprobs"
    assert type(made.prompt_logprobs).__name__ == ("FlatLogprobs" if of_prompt else "NoneType")
