"""What transformers computes of the same weights, in float32."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration

from tools.full_shape.shape import IMAGE, TOKENS_PER_IMAGE


@dataclass(frozen=True, slots=True)
class Step:
    """One greedy step: the token, its log probability, and by how much the next likeliest is behind."""

    token: int
    logprob: float
    margin: float


class Reference:
    """`LlavaForConditionalGeneration` and the hub's image processor."""

    def __init__(self, folder: Path) -> None:
        self._model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self._model.generation_config.eos_token_id = None  # so that every answer has its full length
        self._processor = CLIPImageProcessor.from_pretrained(folder)

    def generate(self, ids: Sequence[int], images: Sequence[Image.Image], tokens: int) -> list[Step]:
        """Return the greedy answer to a prompt that has one image token for each of `images`."""
        expanded = [t for token in ids for t in [token] * (TOKENS_PER_IMAGE if token == IMAGE else 1)]
        inputs = {"input_ids": torch.tensor([expanded]), "attention_mask": torch.ones(1, len(expanded))}
        if images:
            inputs |= self._processor(images=list(images), return_tensors="pt")
        output = self._model.generate(
            **inputs,
            max_new_tokens=tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        steps = []
        for token, logits in zip(output.sequences[0, len(expanded) :].tolist(), output.logits, strict=True):
            best, second = logits[0].topk(2).values.tolist()
            steps.append(Step(token, float(logits[0].log_softmax(-1)[token]), best - second))
        return steps
