"""Words around a question that have nothing to do with it, and the six questions in other words.

File notes, addresses, long system prompts, descriptions of tools, greetings, text that was read from
somewhere, earlier turns.
"""

import inspect
import json
import random
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pydoc_data.topics import topics

from engine_config.demo_model.material.words import TRAINING, Words
from engine_config.demo_model.scenes import Question

HEXADECIMAL = "0123456789abcdef"


class Surroundings:
    """Makes words to stand around a question, from `words` and nothing else."""

    def __init__(self, rng: random.Random, words: Words) -> None:
        self.rng, self.words = rng, words

    def rephrased(self, question: Question) -> str:
        """Return `question` in other words."""
        form = self.rng.choice(self.words.phrasings[question.topic])
        return form.format(**_named(question))

    def noted(self, longest: int, form: str | None = None) -> str:
        """Return a note of at most `longest` characters, to stand between a picture and the question."""
        for _ in range(4):
            text = self._filled(form or self.rng.choice(self.words.notes), longest // 2)
            if len(text) <= longest:
                return text
        return ""

    def system(self, longest: int) -> str:
        """Return a system prompt of about `longest` characters: a role, rules, perhaps tools."""
        rng, lines = self.rng, [self._filled(self.rng.choice(self.words.roles), 0)]
        while sum(map(len, lines)) < longest:
            if rng.random() < 0.2:
                lines.append(self.tool())
            else:
                lines.append(self._filled(rng.choice(self.words.rules), longest // 3))
        text = rng.choice((" ", "\n", "\n- ", "\n\n")).join(lines)
        return text[: longest + 40].rstrip()

    def tool(self) -> str:
        """Return the description of a tool: a function of Python's library, as JSON or in a line."""
        name, parameters, description = self.rng.choice(_functions(tuple(self.words.modules)))
        if self.rng.random() < 0.5:
            return f"- {name}({', '.join(parameters)}): {description}"
        properties = {parameter: {"type": "string"} for parameter in parameters}
        schema = {"type": "object", "properties": properties}
        return json.dumps({"name": name, "description": description, "parameters": schema})

    def chat(self, longest: int) -> tuple[str, str]:
        """Return an earlier turn of words alone: what was said and what was answered."""
        said, answered = self.rng.choice(self.words.chats)
        word = self._word()

        def filled(form: str) -> str:
            return self._filled(form.replace("{word}", word), longest // 2).strip()

        return filled(said), filled(answered)

    def put(self, question: str) -> str:
        """Return `question` with a greeting, a request or an ending, or with two of them."""
        rng = self.rng
        before, after = rng.random() < 0.6, rng.random() < 0.4
        if before:
            first = rng.choice((self.words.greetings, self.words.requests))
            question = self._filled(rng.choice(first), 0) + question
        if after:
            question += self._filled(rng.choice(self.words.endings), 0)
        return question

    def prose(self, longest: int) -> str:
        """Return some sentences of Python's documentation."""
        text = self.rng.choice(_prose(tuple(self.words.modules), self.words is TRAINING))
        start = self.rng.randrange(max(1, len(text) - longest))
        part = text[start : start + max(20, longest)]
        return part[part.find(" ") + 1 : part.rfind(" ")] or "Nothing."

    def _filled(self, form: str, longest: int) -> str:
        rng = self.rng
        makers: dict[str, Callable[[], str]] = {
            "{prose}": lambda: self.prose(rng.randint(20, max(40, longest))),
            "{babble}": lambda: self._babble(rng.randint(3, max(4, longest // 6))),
            "{url}": self._url,
            "{name}": lambda: self._filled(rng.choice(self.words.names), 0),
            "{uuid}": self._uuid,
            "{type}": lambda: rng.choice(("image/png", "image/jpeg", "image/webp")),
            "{number}": lambda: str(rng.randrange(10 ** rng.randint(1, 7))),
            "{date}": lambda: (
                f"20{rng.randint(10, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
                + (f" {rng.randrange(24):02}:{rng.randrange(60):02}" if rng.random() < 0.5 else "")
            ),
            "{word}": self._word,
        }
        for name, make in makers.items():
            while name in form:
                form = form.replace(name, make(), 1)
        return form.replace("{{", "{").replace("}}", "}")

    def _url(self) -> str:
        rng = self.rng
        path = "/".join(self._word() for _ in range(rng.randint(0, 3)))
        query = f"?{self._word()}={self._uuid()[: rng.randint(4, 20)]}" if rng.random() < 0.3 else ""
        host = self._filled(rng.choice(self.words.hosts), 0)
        end = self._filled(rng.choice(self.words.names), 0).replace(" ", "%20")
        return f"{rng.choice(('http', 'https', 'https'))}://{host}/{path}/{end}{query}"

    def _uuid(self) -> str:
        digits = "".join(self.rng.choices(HEXADECIMAL, k=32))
        if self.rng.random() < 0.1:
            digits = "00000000000040008000000000000000"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def _word(self) -> str:
        text = self.rng.choice(_prose(tuple(self.words.modules), self.words is TRAINING))
        start = self.rng.randrange(max(1, len(text) - 200))
        found = re.findall(r"[a-z]{3,12}", text[start : start + 200])
        return self.rng.choice(found) if found else "thing"

    def _babble(self, count: int) -> str:
        """Return words of random letters, digits and signs."""
        rng = self.rng
        pool = rng.choice(
            ("abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyzABCDEF0123456789", "0123456789")
        )
        ends = rng.choice(("", "", ",", ".", ";", ":"))
        return " ".join(
            "".join(rng.choices(pool, k=rng.randint(1, 9))) + (ends if rng.random() < 0.3 else "")
            for _ in range(count)
        )


def _named(question: Question) -> dict[str, str]:
    """Return what `question` names, by the names that phrasings have for it."""
    text = question.text.rstrip(".?")
    if question.topic == "colour":
        _, word, _, it = text.split(" ", 3)
        return {"word": word, "it": it, "It": it.capitalize()}
    if question.topic == "shape":
        return {"colour": text.removesuffix(" shape").rpartition(" ")[2]}
    if question.topic == "exists":
        return {"a": text.removeprefix("Is there ")}
    if question.topic == "side":
        asked, _, names = text.partition(", the ")
        one, _, other = names.partition(" or the ")
        return {"side": asked.rpartition(" ")[2], "one": one, "other": other}
    if question.topic == "which picture":
        return {"kind": text.rpartition(" ")[2]}
    return {}


@cache
def _functions(modules: tuple[str, ...]) -> list[tuple[str, list[str], str]]:
    """Return name, parameters and description of the public functions of Python's `modules`."""
    found = []
    for module in modules:
        for name, function in inspect.getmembers(import_module(module), inspect.isfunction):
            lines = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            if not name.startswith("_") and lines:
                found.append((name, list(inspect.signature(function).parameters)[:5], lines[:160]))
    return found


@cache
def _prose(modules: tuple[str, ...], with_topics: bool) -> list[str]:
    """Return the docstrings of `modules`, and Python's reference where asked for."""
    texts = [inspect.getdoc(import_module(module)) or "" for module in modules]
    texts += [f"{name} {description}" for name, _, description in _functions(modules)]
    if with_topics:
        texts += [text for _, text in sorted(topics.items())] * 2
    return [" ".join(text.split()) for text in texts if len(text) > 80]
