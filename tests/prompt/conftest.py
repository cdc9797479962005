from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, processors

from gateway.engine.interface import Model
from gateway.engine.vocabulary import TokenizerFile
from tests.prompt.llama import LlamaTokenizerJS


@pytest.fixture(scope="session")
def llama_7b(llama_js: LlamaTokenizerJS, save: Callable[[Tokenizer], Path]) -> Model:
    """LLaVA-1.5-7B, as the hub has it."""
    return Model(
        name="llava-1.5-7b-hf",
        context_length=4096,
        image_side=336,
        tokens_per_image=576,
        image_token=32000,
        bos_token=1,
        eos_token=2,
        vocabulary_size=32064,
        vocabulary=TokenizerFile.from_file(save(llama_js.tokenizer())),
    )


@pytest.fixture(scope="session")
def byte_model(save: Callable[[Tokenizer], Path]) -> Model:
    """A model whose text tokens are UTF-8's bytes, each 3 higher: after Llama's layout without the rest."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    special = ["<unk>", "<s>", "</s>", "<image>", "<pad>"]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    # A file may come with these; prompts must not be cut, filled up or opened by them.
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.enable_truncation(max_length=2)
    tokenizer.enable_padding(length=100, pad_id=260, pad_token="<pad>")
    return Model(
        name="bytes",
        context_length=4096,
        image_side=336,
        tokens_per_image=576,
        image_token=259,
        bos_token=1,
        eos_token=2,
        vocabulary_size=261,
        vocabulary=TokenizerFile.from_file(save(tokenizer)),
    )


@pytest.fixture(scope="session")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Tokenizer], Path]:
    def save(tokenizer: Tokenizer) -> Path:
        path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
        tokenizer.save(str(path))
        return path

    return save
