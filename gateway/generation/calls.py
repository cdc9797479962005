"""From an answer's text, piece by piece, to words and calls. Pure: no I/O, no clock."""

from collections.abc import Iterable, Iterator
from uuid import uuid4

from gateway.generation.tools import call_start
from gateway.schema.chat_answer import CallPiece


class CallReader:
    """Reads one choice. Calls are lines that begin with a call of one of `names`, from the first line on."""

    def __init__(self, names: Iterable[str]) -> None:
        self._starts = {call_start(name): name for name in names}
        self._held = ""  # text that may yet turn out to be the start of a call
        self._words = False  # the answer is text to its end
        self._index = -1
        self._arguments: _Arguments | None = None

    @property
    def called(self) -> bool:
        """Whether the answer is calls, all of them whole so far."""
        return self._index >= 0 and self._arguments is None

    def read(self, text: str) -> Iterator[str | CallPiece]:
        """Yield what `text` adds: words, or pieces of calls."""
        while text:
            if self._words:
                yield text
                return
            if self._arguments is None:
                text = self._begin(self._held + text)
                if self._words:
                    yield text
                    return
                if self._arguments is None:
                    return
                yield CallPiece(self._index, "", f"call_{uuid4().hex[:24]}", self._name)
            end = self._arguments.end(text)
            yield CallPiece(self._index, text[:end])
            if end is None:
                return
            self._arguments, text = None, text[end:]

    def close(self) -> str:
        """Return the words that were held back in case they became a call."""
        held, self._held = self._held, ""
        return held if self._index < 0 else ""

    def _begin(self, text: str) -> str:
        """Return what follows the start of a call, arguments first; all of it if it is words."""
        if self._index >= 0:
            text = text.removeprefix("\n")
        for start, name in self._starts.items():
            if text.startswith(start):
                self._index, self._name, self._held = self._index + 1, name, ""
                self._arguments = _Arguments()
                return text[len(start) - 1 :]
        if any(start.startswith(text) for start in self._starts):
            self._held = text
        else:
            self._words, self._held = True, ""
        return text


class _Arguments:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """Return where in `text` the object ends, None where it goes on."""
        for place, letter in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = letter == "\\"
                self._in_string = letter != '"'
            elif letter == '"':
                self._in_string = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if not self._depth:
                    return place + 1
        return None
