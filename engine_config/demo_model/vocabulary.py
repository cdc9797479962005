"""The demo model's tokenizer: Llama's kind (BPE, byte fallback, `▁` for spaces), learned from its questions.

Ids follow Llama's layout: `<unk>` 0, `<s>` 1, `</s>` 2, the 256 bytes 3 to 258, pieces of text, then LLaVA's
`<image>` and `<pad>`.
"""

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from engine_config.demo_model import scenes

SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SIZE = 768

# Plain English, so that a question in other words than ours still becomes few tokens.
PROSE = """
Hello! Hi, how are you? Thanks. Please tell me who you are and what you can do. What can I ask? I am a
small demo model: I know simple shapes, not photographs. Send me a picture of shapes and ask about it.
You are a helpful assistant. Answer in one word, briefly, as shortly as you can. Be concise. A chat
between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed,
and polite answers to the user's questions. USER: ASSISTANT: first second third picture image photo
above below top bottom left right middle behind next between large small big little bigger smaller
yes no one two three four five six seven eight nine ten zero 0 1 2 3 4 5 6 7 8 9 which where when why
how who whose does do did can could would should will with without from into over under about only not
"""


def write(folder: Path) -> None:
    """Learn the tokenizer and write the files that the hub's LLaVA-1.5 has for its own into `folder`."""
    tokenizer = json.loads(_learn().to_str())
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    image, pad = len(vocabulary), len(vocabulary) + 1
    tokenizer["model"] |= {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    tokenizer["pre_tokenizer"] = None
    tokenizer["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    tokenizer["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [_special("<s>"), _sequence("A", 0)],
        "pair": [_special("<s>"), _sequence("A", 0), _special("<s>", 1), _sequence("B", 1)],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    added = {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": image, "<pad>": pad}
    tokenizer["added_tokens"] = [
        {"id": number, "content": token, **_FLAGS} for token, number in added.items()
    ]
    _write(folder / "tokenizer.json", tokenizer)
    _write(folder / "added_tokens.json", {"<image>": image, "<pad>": pad})
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    _write(folder / "special_tokens_map.json", named | {"image_token": "<image>"})
    decoder = {str(number): {"content": token, **_FLAGS} for token, number in sorted(added.items())}
    _write(
        folder / "tokenizer_config.json",
        named
        | {
            "tokenizer_class": "LlamaTokenizer",
            "processor_class": "LlavaProcessor",
            "added_tokens_decoder": decoder,
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "legacy": True,
            "model_max_length": 4096,
            "padding_side": "left",
            "extra_special_tokens": {"image_token": "<image>"},
            "image_token": "<image>",
        },
    )


_FLAGS = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}


def _learn() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    # Merges stay within a word while they are learned, so that none spans two words when they are used.
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    words = pre_tokenizers.Split(Regex("▁?[A-Za-z]+|▁?[0-9]|."), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words])
    printable = [chr(code) for code in range(33, 127)] + ["▁"]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=SPECIAL + BYTES,
        initial_alphabet=printable,
        limit_alphabet=len(printable),
        show_progress=False,
    )
    rng = random.Random(0)
    lines = PROSE.split("\n") * 40
    for _ in range(4000):
        scene = scenes.sample_scene(rng)
        question = scenes.ask(rng, scene)
        lines.append(f"\n{question.text}\nASSISTANT: {question.answer}")
        lines.append(f"\n{scenes.ask_which(rng, scene, scene).text}\nASSISTANT: The first.")
        lines.append(f"USER: {question.text}\n")
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def _special(token: str, kind: int = 0) -> dict[str, object]:
    return {"SpecialToken": {"id": token, "type_id": kind}}


def _sequence(name: str, kind: int) -> dict[str, object]:
    return {"Sequence": {"id": name, "type_id": kind}}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
