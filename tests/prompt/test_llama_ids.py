"""Prompts are the ids that LLaVA-1.5 was trained on, by the real Llama tokenizer."""

import pytest
from tokenizers import Tokenizer

from gateway.engine.interface import Model
from gateway.prompt.styles import STYLES
from gateway.prompt.template import END, render
from gateway.prompt.tokens import LONGEST_TOKEN, encode, length
from gateway.settings import ImagePlace
from tests.each import each
from tests.prompt.conversations import CONVERSATIONS, assistant, user, written
from tests.prompt.llama import LlamaTokenizerJS

pytestmark = pytest.mark.slow

WITHOUT_SPELT_OUT_TOKENS = [name for name in CONVERSATIONS if name != "spelt-out tokens"]


def test_the_card_s_prompt_has_the_known_ids(llama_7b: Model) -> None:
    ids = encode(render(CONVERSATIONS["one picture"], STYLES["card"]), llama_7b)
    before = [1, 3148, 1001, 29901, 29871]
    after = [29871, 13, 5618, 526, 1438, 29973, 13, 22933, 9047, 13566, 29901]
    assert ids == [*before, 32000, *after]
    assert length(ids, llama_7b) == 5 + 576 + 11


def test_text_between_pictures_has_the_ids_of_another_encoder(
    llama_js: LlamaTokenizerJS, llama_7b: Model
) -> None:
    """`llama-tokenizer-js` is another implementation than `tokenizers`, and knows no special tokens."""
    prompts = {
        (style, name): render(messages, STYLES[style])
        for style in STYLES
        for name, messages in CONVERSATIONS.items()
    }
    found = {key: encode(segments, llama_7b) for key, segments in prompts.items()}
    assert found == dict(zip(prompts, llama_js.prompts(list(prompts.values())), strict=True))


@each("place", ["auto", "asked"])
@each("name", WITHOUT_SPELT_OUT_TOKENS)
@each("style", STYLES)
def test_a_prompt_has_the_ids_of_its_whole_string(
    style: str, name: str, place: ImagePlace, llama_js: LlamaTokenizerJS, llama_7b: Model
) -> None:
    """Hugging Face tokenises the string at once, and there `<image>` and `</s>` are tokens."""
    whole: Tokenizer = llama_js.tokenizer()
    segments = render(CONVERSATIONS[name], STYLES[style], place)
    ids = whole.encode(written(segments), add_special_tokens=False).ids
    assert encode(segments, llama_7b) == [1, *ids]


@pytest.mark.parametrize("style", STYLES)
def test_a_continued_reply_has_the_first_ids_of_the_whole_one(style: str, llama_7b: Model) -> None:
    """So the model goes on as if it had said the words itself."""
    asked = CONVERSATIONS["one picture"]
    whole = encode(render([*asked, assistant("It is a cat."), user("Q")], STYLES[style]), llama_7b)
    begun = encode(render([*asked, assistant("It is ")], STYLES[style], continued=True), llama_7b)
    assert whole[: len(begun)] == begun


@pytest.mark.parametrize("style", STYLES)
def test_spelt_out_tokens_stay_text_to_llama(style: str, llama_7b: Model) -> None:
    segments = render(CONVERSATIONS["spelt-out tokens"], STYLES[style])
    ids = encode(segments, llama_7b)
    assert ids.count(llama_7b.bos_token) == 1
    assert ids.count(llama_7b.image_token) == 1
    assert ids.count(llama_7b.eos_token) == segments.count(END) == (0 if style == "hub" else 1)
    assert 32001 not in ids


def test_no_token_of_llama_is_longer_than_the_early_refusal_assumes(llama_js: LlamaTokenizerJS) -> None:
    tokens = set(llama_js.tokenizer().get_vocab()) - {f"<0x{byte:02X}>" for byte in range(256)}
    assert max(len(token.replace("▁", " ").encode()) for token in tokens) == LONGEST_TOKEN
    assert not [token for token in tokens if "▁" in token.lstrip("▁")]
