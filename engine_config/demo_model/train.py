"""Makes the demo model: `python -m engine_config.demo_model.train` writes its files beside this one.

Two lessons. First the vision tower and the projector name, for each of the 64 patches, the kind and the
colour of the shape that lies there, and say how far to the right it is. Then the whole model answers
questions, while the first lesson goes on beside it. Most of them stand apart: ten about one picture,
none of which can see another or its answer. In a conversation the model would learn to repeat what was
said rather than to look. And where a question names a shape, the language model is asked halfway up where
that one is: without this it never learned which of two is further to a side. The pictures are made again for
every run from one seed.
"""

import argparse
import math
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from engine_config.demo_model import scenes, vocabulary, weights
from engine_config.demo_model.conversations import Batch, Conversations
from engine_config.demo_model.pictures import IGNORED, Pool, make_pool

SEED = 1
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))
SPREAD = torch.tensor((0.26862954, 0.26130258, 0.27577711))
PEAK_RATE = 1e-3  # of learning
HALFWAY = 3  # layers up the language model, where it is asked for the place of a shape that was named


class Learner(nn.Module):  # type: ignore[misc]  # torch is not there for mypy
    """The model, and heads that only learning needs.

    Three of them are on what the projector gives the language model, one is on the latter's `HALFWAY` state.
    """

    def __init__(self, llava: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.llava = llava
        width = llava.config.text_config.hidden_size
        self.kind = nn.Linear(width, len(scenes.KINDS) + 1)
        self.colour = nn.Linear(width, len(scenes.COLOURS) + 1)
        self.place = nn.Linear(width, 1)
        self.named_place = nn.Linear(width, 1)

    def see(self, pool: Pool, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Return what the language model gets to see, (pictures, 64, width), and how wrong the heads are."""
        model = self.llava.model
        normal = (pool.pixels[rows].float() / 255 - MEAN) / SPREAD
        tower = model.vision_tower(normal.permute(0, 3, 1, 2), output_hidden_states=True)
        states = tower.hidden_states[self.llava.config.vision_feature_layer][:, 1:]
        seen = model.multi_modal_projector(states)
        kinds, colours = pool.kinds[rows], pool.colours[rows]
        there = (kinds != IGNORED) & (kinds != len(scenes.KINDS))
        loss = 4 * mse_loss(self.place(seen)[there].squeeze(-1).float(), pool.places[rows][there])
        for named, wanted in ((self.kind(seen), kinds), (self.colour(seen), colours)):
            loss = loss + cross_entropy(named[there], wanted[there])
            loss = loss + cross_entropy(named.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
        return seen, loss

    def answer(self, batch: Batch, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the loss over the answers, and the share of their tokens that is right."""
        llava = self.llava.model
        embedded = llava.get_input_embeddings()(batch.ids)
        if seen is not None:
            slots = (batch.ids == self.llava.config.image_token_id).unsqueeze(-1)
            embedded = embedded.masked_scatter(slots, seen.to(embedded.dtype).flatten(0, 1))
        told = llava.language_model(
            inputs_embeds=embedded,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
            output_hidden_states=True,
        )
        wanted = batch.labels[:, 1:]
        asked = wanted != IGNORED
        logits = self.llava.lm_head(told.last_hidden_state[:, :-1][asked]).float()
        loss = cross_entropy(logits, wanted[asked])
        right = (logits.argmax(-1) == wanted[asked]).float().mean()
        names = ~batch.places.isnan()
        if names.any():
            places = self.named_place(told.hidden_states[HALFWAY][names]).squeeze(-1).float()
            loss = loss + mse_loss(places, batch.places[names])
        return loss, right


def schedule(step: int, steps: int) -> float:
    """Return the learning rate: 150 steps up, then down along a cosine to a fiftieth."""
    if step < 150:
        return PEAK_RATE * (step + 1) / 150
    return PEAK_RATE * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def lesson(
    name: str, learner: Learner, steps: int, losses: Iterator[tuple[Tensor, Tensor]], folder: Path
) -> None:
    """Take `steps` optimiser steps on what `losses` yields: each time a loss and a share that is right.

    Saves the model every 500 steps and at the end.
    """
    learned = [p for p in learner.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, betas=(0.9, 0.98), weight_decay=0.05)
    started, recent = time.monotonic(), []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule(step, steps)
        loss, right = next(losses)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        recent.append((loss.item(), right.item()))
        if step % 50 == 49:
            mean_loss, mean_right = np.mean(recent[-50:], axis=0)
            spent = time.monotonic() - started
            print(
                f"{name} {step + 1}/{steps}: loss {mean_loss:.4f}, right {mean_right:.4f},"
                f" {spent:.0f} s of about {spent / (step + 1) * steps:.0f}",
                flush=True,
            )
        if step % 500 == 499 or step == steps - 1:
            weights.save(learner.llava, folder)


def looking(learner: Learner, rng: random.Random, pool: Pool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first lesson's losses."""
    while True:
        rows = rng.sample(range(len(pool.scenes)), 64)
        with torch.autocast("cpu", torch.bfloat16):
            seen, loss = learner.see(pool, rows)
            named = learner.kind(seen).argmax(-1)
        there = pool.kinds[rows] < len(scenes.KINDS)
        there &= pool.kinds[rows] >= 0
        yield loss, (named == pool.kinds[rows])[there].float().mean()


def answering(learner: Learner, conversations: Conversations, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the second lesson's losses."""
    pool, step = conversations.pool, 0
    while True:
        step += 1
        if step % 8 < 6:
            batch = conversations.apart(size, 1)
        elif step % 8 == 6:
            batch = conversations.apart(size, 2)
        else:
            batch = conversations.talks(size * 2)
        rows = batch.pictures
        with torch.autocast("cpu", torch.bfloat16):
            seen, naming = learner.see(pool, rows)
            loss, right = learner.answer(batch, seen)
        yield loss + 0.3 * naming, right


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments.add_argument("--pictures", type=int, default=40_000, help="pictures to learn from")
    arguments.add_argument("--looking", type=int, default=2500, help="steps of the first lesson")
    arguments.add_argument("--answering", type=int, default=4000, help="steps of the second lesson")
    arguments.add_argument("--size", type=int, default=24, help="rows of ten questions a step")
    arguments.add_argument("--resume", type=Path, help="a folder whose weights have had the first lesson")
    chosen = arguments.parse_args()

    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.resume is None:
        vocabulary.write(chosen.folder)
    elif chosen.resume.resolve() != chosen.folder.resolve():
        # Weights know the tokens that they were taught.
        for path in chosen.resume.glob("*token*.json"):
            shutil.copy(path, chosen.folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(chosen.folder / "tokenizer.json"))
    image, pad = tokenizer.convert_tokens_to_ids(["<image>", "<pad>"])
    learner = Learner(weights.new(image, pad))
    count = sum(p.numel() for p in learner.llava.parameters())
    print(f"{count:,} parameters", flush=True)
    started = time.monotonic()
    pool = make_pool(rng, chosen.pictures)
    print(f"{len(pool.scenes):,} pictures in {time.monotonic() - started:.0f} s", flush=True)
    if chosen.resume:
        weights.load(learner.llava, chosen.resume)
    else:
        lesson("looking", learner, chosen.looking, looking(learner, rng, pool), chosen.folder)
    answers = answering(learner, Conversations(rng, tokenizer, pool), chosen.size)
    lesson("answering", learner, chosen.answering, answers, chosen.folder)
    print(f"done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
