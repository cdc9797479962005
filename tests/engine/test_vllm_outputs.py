"""How vLLM is told to keep log probabilities: 200,000 of an answer must not stall the event loop."""

from types import SimpleNamespace

import pytest

from gateway.engine.interface import Job, Sampling

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_log_probabilities_are_kept_as_plain_numbers_and_their_tokens_not_decoded() -> None:
    from vllm.logprobs import FlatLogprobs
    from vllm.v1.engine.logprobs import LogprobsProcessor

    from gateway.engine.vllm_outputs import without_words
    from gateway.engine.vllm_sampling import sampling_params

    asked = SimpleNamespace(sampling_params=sampling_params(Job("job", [1], (), Sampling(1, logprobs=20))))
    without_words()
    made = LogprobsProcessor.from_new_request(tokenizer=SimpleNamespace(), request=asked)
    assert made.tokenizer is None
    assert isinstance(made.logprobs, FlatLogprobs)
