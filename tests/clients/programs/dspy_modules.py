"""dspy: its language model with a picture in the messages, and a signature of plain text."""

import dspy
import litellm
from shared import ANSWER, KEY, MODEL, URL, asked, expect, raises, run

OPTIONS = {"api_base": URL, "api_key": KEY, "temperature": 0, "max_tokens": 64, "cache": False, "num_retries": 0}
lm = dspy.LM(f"openai/{MODEL}", **OPTIONS)


def text(reply: object) -> str:
    first = reply[0]
    return first if isinstance(first, str) else first["text"]


def whole() -> None:
    expect(text(lm(messages=[asked()])), ANSWER)


def turns() -> None:
    first = {"role": "assistant", "content": text(lm(messages=[asked()]))}
    reply = lm(messages=[asked(), first, {"role": "user", "content": "What colour is the star?"}])
    expect(text(reply), "Red.")


def errors() -> None:
    kinds = (litellm.NotFoundError, litellm.AuthenticationError, dspy.utils.exceptions.DSPyError if hasattr(
        dspy.utils.exceptions, "DSPyError") else litellm.NotFoundError)
    raises(kinds, lambda: dspy.LM("openai/no-such", **OPTIONS)("x"))
    raises(kinds, lambda: dspy.LM(f"openai/{MODEL}", **(OPTIONS | {"api_key": "sk-wrong"}))("x"))


run(dict(whole=whole, turns=turns, errors=errors))
