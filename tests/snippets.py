"""The blocks of code in a page of the docs, which tests run."""

import re


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the language and the code of each block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def python(text: str) -> list[str]:
    """Return the Python blocks, in order."""
    return [code for language, code in blocks(text) if language == "python"]


def shell(text: str, beginning: str) -> str:
    """Return the only block of commands that begins so."""
    (block,) = [code for language, code in blocks(text) if language == "sh" and code.startswith(beginning)]
    return block
