"""Makes the demo model: `python -m engine_config.demo_model.train` writes its files beside this one.

Two lessons. First the vision tower and the projector name, for each of the 64 patches, the kind and the
colour of the shape that lies there, and say how far to the right it is. Then the full model answers
questions, while the first lesson goes on beside it. Most of them stand apart: ten about one picture,
none of which can see another or its answer. In a conversation the model would learn to repeat what was
said rather than to look. And where a question names a shape, the language model is asked halfway up where
that one is: without this it never learned which of two is further to a side. The pictures are made again for
every run from one seed.

Some pictures are no drawn scenes: a head distinguishes the two, and every question about one has the same
answer. Words that have nothing to do with the questions stand before most of them.

With `RANK` and `WORLD_SIZE` set as for torch.distributed, several processes learn together: each makes
pictures and questions of its own, and their gradients are averaged.
"""

import argparse
import math
import os
import random
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
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
        self.foreign = nn.Linear(width, 1)

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
        foreign = torch.tensor([float(row >= len(pool.scenes)) for row in rows])
        known = self.foreign(seen.mean(1)).squeeze(-1).float()
        return seen, loss + 3 * binary_cross_entropy_with_logits(known, foreign)

    def answer(self, batch: Batch, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the loss over the answers, and the share of their tokens that is right."""
        llava = self.llava.model
        embedded = llava.get_input_embeddings()(batch.ids)
        if seen is not None:
            slots = (batch.ids == self.llava.config.image_token_id).unsqueeze(-1)
            embedded = embedded.masked_scatter(slots, seen.to(embedded.dtype).flatten(0, 1))
        output = llava.language_model(
            inputs_embeds=embedded,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
            output_hidden_states=True,
        )
        wanted = batch.labels[:, 1:]
        asked = wanted != IGNORED
        logits = self.llava.lm_head(output.last_hidden_state[:, :-1][asked]).float()
        # The first word decides: whether the picture is refused, and yes or no.
        first = asked & ~torch.cat((torch.zeros_like(asked[:, :1]), asked[:, :-1]), 1)
        weight = 1 + 3 * first[asked].float()
        loss = (weight * cross_entropy(logits, wanted[asked], reduction="none")).sum() / weight.sum()
        right = (logits.argmax(-1) == wanted[asked]).float().mean()
        names = ~batch.places.isnan()
        if names.any():
            places = self.named_place(output.hidden_states[HALFWAY][names]).squeeze(-1).float()
            loss = loss + mse_loss(places, batch.places[names])
        return loss, right


def schedule(step: int, steps: int) -> float:
    """Return the share of the peak rate: up for at most 150 steps, then down along a cosine to a fiftieth."""
    rise = min(150, steps // 15)
    if step < rise:
        return (step + 1) / rise
    return 0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2


def lesson(
    name: str,
    learner: Learner,
    steps: int,
    losses: Iterator[tuple[Tensor, Tensor]],
    folder: Path,
    *,
    rate: float = PEAK_RATE,
) -> None:
    """Take `steps` optimiser steps on what `losses` yields: each time a loss and a share that is right.

    Saves the model every 100 steps and at the end; started again after a break, it goes on from there.
    """
    learned = [p for p in learner.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, betas=(0.9, 0.98), weight_decay=0.05)
    kept, first = folder / f"{name}.pt", 0
    if kept.exists():
        state = torch.load(kept)
        learner.load_state_dict(state["learner"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["steps"]
    started, recent = time.monotonic(), []
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(step, steps)
        loss, right = next(losses)
        optimiser.zero_grad()
        loss.backward()
        average_gradients(learned)
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        recent.append((loss.item(), right.item()))
        if step % 50 == 49 and first_process():
            mean_loss, mean_right = np.mean(recent[-50:], axis=0)
            spent = time.monotonic() - started
            print(
                f"{name} {step + 1}/{steps}: loss {mean_loss:.4f}, right {mean_right:.4f},"
                f" {spent:.0f} s of about {spent / (step + 1 - first) * (steps - first):.0f}",
                flush=True,
            )
        if (step % 100 == 99 or step == steps - 1) and first_process():
            weights.save(learner.llava, folder)
            state = {"learner": learner.state_dict(), "optimiser": optimiser.state_dict(), "steps": step + 1}
            torch.save(state, kept)
    if first_process():
        kept.unlink(missing_ok=True)


def average_gradients(learned: list[nn.Parameter]) -> None:
    """Average the gradients over the processes that learn together, if there are several."""
    if not distributed.is_initialized():
        return
    for parameter in learned:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = torch.cat([parameter.grad.flatten() for parameter in learned])
    distributed.all_reduce(gradients)
    gradients /= distributed.get_world_size()
    parts = gradients.split([parameter.numel() for parameter in learned])
    for parameter, part in zip(learned, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def first_process() -> bool:
    return not distributed.is_initialized() or distributed.get_rank() == 0


def looking(learner: Learner, rng: random.Random, pool: Pool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first lesson's losses."""
    while True:
        rows = rng.sample(range(len(pool.pixels)), 64)
        with torch.autocast("cpu", torch.bfloat16):
            seen, loss = learner.see(pool, rows)
            named = learner.kind(seen).argmax(-1)
        there = pool.kinds[rows] < len(scenes.KINDS)
        there &= pool.kinds[rows] >= 0
        yield loss, (named == pool.kinds[rows])[there].float().mean()


def answering(learner: Learner, conversations: Conversations, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the second lesson's losses."""
    pool, step, rng = conversations.pool, 0, conversations.rng
    while True:
        step += 1
        longest = rng.choice((0, 0, 100, 250, 400))
        if step % 8 == 3 or step % 16 == 15:
            batch = conversations.albums(size // 2)
        elif step % 8 < 6:
            batch = conversations.apart(size * 2 // 3 if longest > 100 else size, 1, longest)
        elif step % 8 == 6:
            batch = conversations.apart(size, 2, longest)
        else:
            batch = conversations.talks(size * 2)
        rows = [*batch.pictures, *_drawn(rng, pool, 6 * size)]
        with torch.autocast("cpu", torch.bfloat16):
            seen, naming = learner.see(pool, rows)
            loss, right = learner.answer(batch, seen[: len(batch.pictures)])
        yield loss + 0.3 * naming, right


def _drawn(rng: random.Random, pool: Pool, count: int) -> list[int]:
    """Return `count` pictures that are only looked at: of each sort as many, if there are any others."""
    scenes_, every = len(pool.scenes), len(pool.pixels)
    drawn = [rng.randrange(scenes_) for _ in range(count)]
    if every > scenes_:
        drawn[::2] = [rng.randrange(scenes_, every) for _ in drawn[::2]]
    return drawn


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments.add_argument("--pictures", type=int, default=40_000, help="pictures to learn from")
    arguments.add_argument("--others", type=int, default=10_000, help="of pictures that are no scenes")
    arguments.add_argument("--looking", type=int, default=2500, help="steps of the first lesson")
    arguments.add_argument("--answering", type=int, default=4000, help="steps of the second lesson")
    arguments.add_argument("--size", type=int, default=24, help="rows of ten questions a step")
    arguments.add_argument("--resume", type=Path, help="a folder whose weights have had the first lesson")
    arguments.add_argument("--seed", type=int, default=SEED)
    arguments.add_argument("--rate", type=float, default=PEAK_RATE, help="of learning, at its peak")
    chosen = arguments.parse_args()

    torch.manual_seed(SEED)
    rng = random.Random(chosen.seed)
    if "RANK" in os.environ:
        distributed.init_process_group(
            "gloo", timeout=timedelta(hours=1)
        )  # one waits for the other's pictures
        rng = random.Random(chosen.seed + 1000 * distributed.get_rank())
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
    pool = make_pool(rng, chosen.pictures, chosen.others)
    print(f"{len(pool.pixels):,} pictures in {time.monotonic() - started:.0f} s", flush=True)
    if chosen.resume:
        weights.load(learner.llava, chosen.resume)
    else:
        lesson("looking", learner, chosen.looking, looking(learner, rng, pool), chosen.folder)
    answers = answering(learner, Conversations(rng, tokenizer, pool), chosen.size)
    lesson(
        "answering",
        learner,
        chosen.answering,
        answers,
        chosen.folder,
        rate=chosen.rate,
    )
    print(f"done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
