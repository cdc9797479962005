"""The command `ask`: one question about images."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import BadInput, errors
from gateway.cli.options import LOCAL, APIKey, BaseURL, Json, Model


def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[IMAGE]... QUESTION",
            help="Files or URLs of images, then the question; - reads one of them from standard input.",
        ),
    ],
    *,
    base_url: BaseURL = LOCAL,
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    json: Json = False,
    api_key: APIKey = "",
) -> None:
    """Ask a running gateway about images, and print the answer as it arrives.

    A URL is fetched by the gateway, not from here.
    """
    from gateway.cli import question
    from gateway.cli.client import Server, exits_on_errors

    server = Server(base_url, api_key)
    with exits_on_errors(server):
        *images, text = _checked(words)
        urls = [question.image_url(image) for image in images]
        if text == question.STANDARD:
            text = sys.stdin.read().strip()
        with server.client() as client:
            body = question.request(model or client.models.list().data[0].id, urls, text, max_tokens)
            if json:
                sys.stdout.write(question.answer(client, body).decode() + "\n")
            elif _print_stream(question.stream(client, body)) == "length":
                errors.print(f"the answer was cut off; --max-tokens is {max_tokens}", highlight=False)


def _print_stream(pieces: Iterable[tuple[str, str | None]]) -> str | None:
    """Print the answer as it comes, and return why it ended."""
    finish = None
    for piece, reason in pieces:
        finish = reason or finish
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return finish


def _checked(words: list[str]) -> list[str]:
    """Return the images and the question. Raises BadInput."""
    if words.count("-") > 1:
        raise BadInput("-: standard input can be one image or the question; got it twice")
    if words[-1] != "-" and _is_file(words[-1]):
        raise BadInput(f"{words[-1]}: the last argument must be the question; got a file")
    return words


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # A long question is no file's name.
        return False
