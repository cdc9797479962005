"""Makes the demo model: `python -m engine_config.demo_model.train` writes its files beside this one.

Two lessons. First the vision tower and the projector name, for each of the 64 patches, the kind and the
colour of the shape that lies there, and say how far to the right it is. Then the whole model answers
questions, while the first lesson goes on beside it. Most of them stand apart: ten about one picture,
none of which can see another or its answer. In a conversation the model would learn to repeat what was
said rather than to look. The pictures are made anew for every run from one seed.

The tower learns on 112-px pictures in patches of 14 px. It is saved for 336-px pictures in patches of 42:
each weight of the patch embedding becomes nine equal ones of a ninth, which on a 336-px picture compute what
the original computes on its 3 x 3 averages. So the model takes the pixels that the hub's LLaVA-1.5 takes.
"""

import argparse
import io
import json
import math
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from engine_config.demo_model import scenes, vocabulary

SEED = 1
SIDE, GRID = 112, 8  # pixels and patches along a side while it learns
ENLARGED = 3  # 336 px, as the hub's LLaVA-1.5 takes them
PAD_COLOUR = (122, 116, 104)
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))
SPREAD = torch.tensor((0.26862954, 0.26130258, 0.27577711))
IGNORED = -100
PEAK_RATE = 1e-3  # of learning

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 5,
    "image_size": SIDE,
    "patch_size": SIDE // GRID,
    "projection_dim": 128,
    "vocab_size": 32000,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "num_hidden_layers": 5,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}

SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You answer questions about pictures. Be concise.",
    "You are a polite assistant. Answer in as few words as you can.",
)
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
ABOUT = "I am a small demo model. I know simple shapes: send me a picture of some and ask about it."
SMALL_TALK = (
    ("Hello", "Hello! Send me a picture of shapes and ask about it."),
    ("Hello!", "Hello! Send me a picture of shapes and ask about it."),
    ("Hi", "Hello! Send me a picture of shapes and ask about it."),
    ("Hi!", "Hello! Send me a picture of shapes and ask about it."),
    ("Who are you?", ABOUT),
    ("What are you?", ABOUT),
    ("What can you do?", ABOUT),
    ("What can I ask?", ABOUT),
    ("How are you?", "Fine, thanks."),
    ("Thanks.", "You are welcome."),
    ("Thank you.", "You are welcome."),
    *(
        (question, "I see no picture.")
        for question in (
            "What is in the picture?",
            "What is in the image?",
            "What's in this image?",
            "Describe the picture.",
            "How many shapes are there?",
            "What colour is the circle?",
            "Which shape is red?",
        )
    ),
)


@dataclass(frozen=True, slots=True)
class Form:
    """How a conversation is written down: one of the gateway's prompt styles."""

    system: str
    after_system: str
    before_reply: str
    after_reply: str


# Some things are harder to learn than others.
TOPIC_WEIGHTS = {"describe": 3, "colour": 4, "shape": 3, "exists": 3, "side": 6, "count": 1}

CARD = Form("", "\n", "\nASSISTANT:", "</s>")
VICUNA = Form(VICUNA_SYSTEM, " ", " ASSISTANT:", "</s>")
HUB = Form("", " ", " ASSISTANT:", " ")


@dataclass(frozen=True, slots=True)
class Turn:
    pictures: int
    pictures_first: bool
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Pool:
    """Scenes with their pictures: uint8, (scenes, 112, 112, 3), and what lies on each patch, (scenes, 64).

    `places` is how far to the right the middle of the shape on the patch is, from -1 to 1.
    """

    scenes: list[scenes.Scene]
    pixels: Tensor
    kinds: Tensor
    colours: Tensor
    places: Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence: token ids, what is learned of them, and to which question each belongs (0: to all)."""

    ids: list[int]
    labels: list[int]
    owners: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences, (sequences, tokens), and the pictures in them as indices of a pool."""

    ids: Tensor
    labels: Tensor
    positions: Tensor
    mask: Tensor  # (sequences, 1, tokens, tokens): whether one token sees another
    pictures: list[int]


def photograph(rng: random.Random, scene: scenes.Scene) -> Image.Image:
    """Draw `scene` at some size, sometimes through JPEG, and fit it as the gateway does, to 112 px."""
    side = rng.choice((112, 128, 160, 200, 256, 336, 400))
    picture = scenes.draw(scene, side)
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=rng.randint(70, 95))
        picture = Image.open(buffer).convert("RGB")
    square = Image.new("RGB", (max(picture.size),) * 2, PAD_COLOUR)
    square.paste(picture, ((square.width - picture.width) // 2, (square.height - picture.height) // 2))
    whole = (SIDE * ENLARGED, SIDE * ENLARGED)
    return square.resize(whole, Image.Resampling.BICUBIC).reduce(ENLARGED)


def make_pool(rng: random.Random, size: int) -> Pool:
    """Make `size` scenes and their pictures."""
    made = [scenes.sample_scene(rng) for _ in range(size)]
    pixels = torch.empty((size, SIDE, SIDE, 3), dtype=torch.uint8)
    kinds = torch.empty((size, GRID * GRID), dtype=torch.int64)
    colours = torch.empty_like(kinds)
    places = torch.empty(kinds.shape)
    for row, scene in enumerate(made):
        pixels[row] = torch.from_numpy(np.array(photograph(rng, scene)))
        kinds[row], colours[row], places[row] = _what_lies_where(scene)
    return Pool(made, pixels, kinds, colours, places)


def _what_lies_where(scene: scenes.Scene) -> tuple[Tensor, Tensor, Tensor]:
    """Label each patch with the shape that covers a seventh of it; of less, nothing is asked."""
    kinds = torch.full((GRID, GRID), len(scenes.KINDS))
    colours = torch.full((GRID, GRID), len(scenes.COLOURS))
    places = torch.zeros(GRID, GRID)
    left, top = ((1 - side) / 2 * SIDE for side in (scene.width, scene.height))
    for shape in scene.shapes:
        mask = Image.new("L", (SIDE, SIDE))
        outline = [(left + x * SIDE, top + y * SIDE) for x, y in scenes.outline(shape)]
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        covered = torch.from_numpy(np.array(mask.reduce(SIDE // GRID)))
        kinds[covered > 0] = colours[covered > 0] = IGNORED
        kinds[covered > 36] = scenes.KINDS.index(shape.kind)
        colours[covered > 36] = list(scenes.COLOURS).index(shape.colour)
        places[covered > 36] = 2 * (left / SIDE + shape.x) - 1
    return kinds.flatten(), colours.flatten(), places.flatten()


class Conversations:
    """Makes conversations about the pictures of a pool, and their token ids."""

    def __init__(self, rng: random.Random, tokenizer: PreTrainedTokenizerFast, pool: Pool) -> None:
        self.rng, self.tokenizer, self.pool = rng, tokenizer, pool
        self.image = tokenizer.convert_tokens_to_ids("<image>")
        self.known: dict[str, list[int]] = {}

    def apart(self, size: int, pictures: int) -> Batch:
        """Return `size` rows of questions about one picture, or two; they do not see each other."""
        rows, shown = [], []
        for _ in range(size):
            chosen = self._choose(pictures)
            rows.append(self._apart([self._ask(chosen) for _ in range(10 if pictures == 1 else 5)], pictures))
            shown += chosen
        return self._batch(rows, shown)

    def talks(self, size: int) -> Batch:
        """Return `size` conversations of one to three turns, with a picture, two or none."""
        rows, shown = [], []
        for _ in range(size):
            chosen = self._choose(self.rng.choices((0, 1, 2), (0.1, 0.6, 0.3))[0])
            rows.append(self._talk(self._turns(chosen)))
            shown += chosen
        return self._batch(rows, shown)

    def _batch(self, rows: list[Row], pictures: list[int]) -> Batch:
        length = max(len(row.ids) for row in rows)

        def padded(values: list[int], filler: int) -> list[int]:
            return values + [filler] * (length - len(values))

        owners = torch.tensor([padded(row.owners, -1) for row in rows])
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        mask = causal & ((owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None]))
        return Batch(
            torch.tensor([padded(row.ids, 0) for row in rows]),
            torch.tensor([padded(row.labels, IGNORED) for row in rows]),
            # A token comes as many places after the start as there are tokens that it sees before it.
            mask.sum(-1) - 1,
            mask[:, None],
            pictures,
        )

    def _choose(self, count: int) -> list[int]:
        """Return `count` pictures; where there are two, they share no kind of shape."""
        made = self.pool.scenes
        while True:
            chosen = [self.rng.randrange(len(made)) for _ in range(count)]
            kinds = [shape.kind for number in chosen for shape in made[number].shapes]
            if count < 2 or len(kinds) == len(set(kinds)):
                return chosen

    def _ask(self, chosen: list[int]) -> scenes.Question:
        first, *others = (self.pool.scenes[number] for number in chosen)
        if others:
            return scenes.ask_which(self.rng, first, others[0])
        topic = self.rng.choices(list(TOPIC_WEIGHTS), list(TOPIC_WEIGHTS.values()))[0]
        if topic == "side" and len(first.shapes) == 1:
            topic = "describe"
        return scenes.ask(self.rng, first, topic)

    def _turns(self, chosen: list[int]) -> list[Turn]:
        rng = self.rng
        if not chosen:
            return [Turn(0, True, *rng.choice(SMALL_TALK)) for _ in range(3)]
        both = len(chosen) == 2 and rng.random() < 0.5
        turns = []
        for number in range(3):
            # Where they are not shown at once, a second comes later, and "the picture" is the newest.
            newest = chosen if both else chosen[: number + 1][-1:]
            question = self._ask(newest)
            shown = len(chosen) if both and not number else int(not both and number < len(chosen))
            turns.append(Turn(shown, rng.random() < 0.5, question.text, question.answer))
        return turns[: rng.randint(len(chosen) or 1, 3)]

    def _apart(self, questions: list[scenes.Question], pictures: int) -> Row:
        form, system = self._form()
        opening = f"{system}{form.after_system}USER: " if system else "USER: "
        ids = [1, *self._encode(opening)]
        for number in range(pictures):
            ids += (self._encode("\n") if number else []) + [self.image] * GRID * GRID
        row = Row(ids, [IGNORED] * len(ids), [0] * len(ids))
        for owner, question in enumerate(questions, start=1):
            self._append(row, f"\n{question.text}{form.before_reply}", question.answer, owner)
        return row

    def _talk(self, turns: list[Turn]) -> Row:
        form, system = self._form()
        row = Row([1], [IGNORED], [0])
        text = system + form.after_system if system else ""
        for turn in turns:
            text += "USER: "
            if not turn.pictures_first and turn.pictures:
                text += turn.question
            for number in range(turn.pictures):
                text += "\n" if number or not turn.pictures_first else ""
                slots = self._encode(text) + [self.image] * GRID * GRID
                row.ids.extend(slots)
                row.labels.extend([IGNORED] * len(slots))
                row.owners.extend([0] * len(slots))
                text = ""
            if turn.pictures_first or not turn.pictures:
                text += "\n" * (turn.pictures > 0) + turn.question
            self._append(row, text + form.before_reply, turn.answer, owner=0)
            text = ""
            if form is HUB:
                # The hub's form has a blank where the others have </s>.
                break
        return row

    def _append(self, row: Row, asked: str, answer: str, owner: int) -> None:
        known = len(self._encode(asked))
        piece = [*self._encode(f"{asked} {answer}"), 2]
        row.ids.extend(piece)
        row.labels.extend([IGNORED] * known + piece[known:])
        row.owners.extend([owner] * len(piece))

    def _form(self) -> tuple[Form, str]:
        form = self.rng.choices((CARD, VICUNA, HUB), (0.84, 0.08, 0.08))[0]
        return form, self.rng.choice(SYSTEMS) if self.rng.random() < 0.12 else form.system

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        if text not in self.known:
            if len(self.known) > 200_000:
                self.known.clear()
            self.known[text] = self.tokenizer.encode(
                text, add_special_tokens=False, split_special_tokens=True
            )
        return self.known[text]


class Learner(nn.Module):  # type: ignore[misc]  # torch is not there for mypy
    """The model, and for the first lesson three heads on what its projector gives the language model."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__()
        self.llava = LlavaForConditionalGeneration(config)
        width = config.text_config.hidden_size
        self.kind = nn.Linear(width, len(scenes.KINDS) + 1)
        self.colour = nn.Linear(width, len(scenes.COLOURS) + 1)
        self.place = nn.Linear(width, 1)

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
        states = llava.language_model(
            inputs_embeds=embedded,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        wanted = batch.labels[:, 1:]
        asked = wanted != IGNORED
        logits = self.llava.lm_head(states[:, :-1][asked]).float()
        right = (logits.argmax(-1) == wanted[asked]).float().mean()
        return cross_entropy(logits, wanted[asked]), right


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
    weights = [p for p in learner.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, betas=(0.9, 0.98), weight_decay=0.05)
    started, recent = time.monotonic(), []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule(step, steps)
        loss, right = next(losses)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
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
            save(learner.llava, folder)


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


def save(llava: LlavaForConditionalGeneration, folder: Path) -> None:
    """Write weights and configuration under the names that the hub's LLaVA-1.5 has."""
    patch = SIDE // GRID * ENLARGED
    weights = {}
    for name, value in llava.state_dict().items():
        if name.endswith("position_ids"):
            continue
        saved = value
        if name.endswith("patch_embedding.weight"):
            saved = value.repeat_interleave(ENLARGED, 2).repeat_interleave(ENLARGED, 3) / ENLARGED**2
        weights[_hub_name(name)] = saved.to(torch.float16).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "ignore_index": IGNORED,
        "image_token_index": llava.config.image_token_id,
        "pad_token_id": llava.config.pad_token_id,
        "projector_hidden_act": "gelu",
        "text_config": TEXT | {"vocab_size": llava.config.text_config.vocab_size},
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vision_config": VISION | {"image_size": SIDE * ENLARGED, "patch_size": patch},
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    side = SIDE * ENLARGED
    pixels = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "patch_size": patch,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": llava.config.pad_token_id}
    for name, content in (
        ("config", config),
        ("preprocessor_config", pixels),
        ("processor_config", processor),
        ("generation_config", generation),
        ("chat_template", {"chat_template": CHAT_TEMPLATE}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


# What the hub's chat template does, in other words: the pictures of a message first, then its texts.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def load(llava: LlavaForConditionalGeneration, folder: Path) -> None:
    """Read the weights that `save` wrote."""
    saved = load_file(folder / "model.safetensors")
    weights = {}
    for name in llava.state_dict():
        if name.endswith("position_ids"):
            continue
        value = saved[_hub_name(name)].float()
        if name.endswith("patch_embedding.weight"):
            side = SIDE // GRID
            value = value.reshape(*value.shape[:2], side, ENLARGED, side, ENLARGED).sum((3, 5))
        weights[name] = value
    llava.load_state_dict(weights, strict=False)


def _hub_name(name: str) -> str:
    name = name.replace("model.vision_tower.vision_model.", "model.vision_tower.")
    for ours, hubs in (
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ):
        if name.startswith(ours):
            return hubs + name.removeprefix(ours)
    raise ValueError(f"{name}: no such weight in the hub's LLaVA-1.5")


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
    text = TEXT | {"vocab_size": (pad + 64) // 64 * 64}
    config = LlavaConfig(
        vision_config=VISION,
        text_config=text,
        image_token_id=image,
        image_token_index=image,
        pad_token_id=pad,
        vision_feature_layer=-2,
        tie_word_embeddings=False,
    )
    learner = Learner(config)
    count = sum(p.numel() for p in learner.llava.parameters())
    print(f"{count:,} parameters", flush=True)
    started = time.monotonic()
    pool = make_pool(rng, chosen.pictures)
    print(f"{len(pool.scenes):,} pictures in {time.monotonic() - started:.0f} s", flush=True)
    if chosen.resume:
        load(learner.llava, chosen.resume)
    else:
        lesson("looking", learner, chosen.looking, looking(learner, rng, pool), chosen.folder)
    answers = answering(learner, Conversations(rng, tokenizer, pool), chosen.size)
    lesson("answering", learner, chosen.answering, answers, chosen.folder)
    print(f"done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
