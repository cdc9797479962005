"""Converts a job's sampling to vLLM's `SamplingParams`. Imports vLLM."""

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from gateway.engine.interface import Job

LEAST_TEMPERATURE = 0.01  # vLLM raises lower values to it, and logs a line each time
LEAST_TOP_P = 1e-6  # leaves one token, as smaller values do; the smallest are 0 in 32 bits, out of range
MOST_CHOICES = 1024  # more than any route allows
ALTERNATIVE = -(2**62)  # added to seeds that vLLM would take for "no seed"


def sampling_params(job: Job) -> SamplingParams:
    """Return vLLM's `SamplingParams` for `job`."""
    sampling = job.sampling
    greedy_copies = sampling.temperature == 0 and sampling.n > 1
    return SamplingParams(
        n=sampling.n,
        # vLLM refuses n > 1 at temperature 0; top_k=1 gives the same answer.
        temperature=1.0 if greedy_copies else _temperature(sampling.temperature),
        top_k=1 if greedy_copies else sampling.top_k,
        top_p=max(sampling.top_p, LEAST_TOP_P),
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        ignore_eos=sampling.ignore_eos,
        seed=_seed(sampling.seed),
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        logit_bias=dict(sampling.logit_bias) or None,
        logprobs=sampling.logprobs,
        prompt_logprobs=sampling.prompt_logprobs,
        # vLLM keeps them until the answer ends; as objects they would slow garbage collection.
        flat_logprobs=sampling.logprobs is not None,
        structured_outputs=(
            StructuredOutputsParams(grammar=sampling.constraint.grammar) if sampling.constraint else None
        ),
        # Constrained answers are checked as they are generated. Log probabilities are processed as they come:
        # those of a long answer at once would stall the event loop.
        output_kind=(
            RequestOutputKind.DELTA
            if job.stream or sampling.constraint or sampling.logprobs is not None
            else RequestOutputKind.FINAL_ONLY
        ),
        skip_clone=True,  # It is used for this request only.
    )


def _temperature(temperature: float) -> float:
    return max(temperature, LEAST_TEMPERATURE) if temperature > 0 else 0.0


def _seed(seed: int | None) -> int | None:
    """Return a seed that is -1 for no choice (vLLM adds 1 for each further choice).

    In vLLM -1 means no seed, so seeds just below 0 are replaced by others.
    """
    return seed + ALTERNATIVE if seed is not None and -MOST_CHOICES <= seed < 0 else seed
