"""Text to tokens and back, exactly as a prompt is made."""

from collections.abc import Sequence
from functools import partial

from gateway.access.callers import Caller
from gateway.answering.prepare import Pipeline
from gateway.engine.interface import Model
from gateway.errors import InvalidValue
from gateway.generation.request import GenerationRequest
from gateway.schema.tokens import Detokenized, ImageSlot, Tokenized


class Tokenizing:
    """Answers for the model that `pipeline` serves."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def tokenize(
        self, request: GenerationRequest, caller: Caller, *, strings: bool | None = False, opened: bool = True
    ) -> Tokenized:
        """Return the prompt of `request`, with `<s>` where it is `opened`; no picture is fetched.

        Raises RequestError, as answering it would.
        """
        model = self._pipeline.model
        ids, images = _expanded(await self._pipeline.prompt_ids(request, caller), model)
        if not opened:
            ids = ids[1:]
        spelt = None
        if strings:
            spelt = await self._pipeline.in_turn(caller, partial(model.vocabulary.pieces, ids))
        return Tokenized(len(ids), model.context_length, ids, spelt, images)

    def detokenize(self, ids: Sequence[int], name: str) -> Detokenized:
        """Return the text of `ids`, special tokens in it. Raises RequestError."""
        model = self._pipeline.model
        self._pipeline.check_model(name)
        if len(ids) > model.context_length:
            raise InvalidValue(
                f"tokens: at most {model.context_length} tokens are allowed; got {len(ids)}", param="tokens"
            )
        for place, token in enumerate(ids):
            if token >= model.vocabulary_size:
                param = f"tokens[{place}]"
                raise InvalidValue(
                    f"{param}: the model has {model.vocabulary_size} tokens; got {token}", param=param
                )
        return Detokenized(model.vocabulary.decode(ids, special=True))


def _expanded(ids: Sequence[int], model: Model) -> tuple[list[int], list[ImageSlot]]:
    """Return `ids` with each image token as often as the engine has it, and where each picture stands."""
    expanded: list[int] = []
    images = []
    for token in ids:
        if token == model.image_token:
            images.append(ImageSlot(len(expanded), model.tokens_per_image))
            expanded += [token] * model.tokens_per_image
        else:
            expanded.append(token)
    return expanded, images
