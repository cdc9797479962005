"""The commands `ask`, `batch` and `caption`, clients of a running gateway."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.common import ExitCode, errors, refused

if TYPE_CHECKING:
    from gateway.cli.bulk import Gateway, Tally

BaseURL = Annotated[str, typer.Option(help="The gateway's address.")]
Model = Annotated[str | None, typer.Option(help="Model; the first that is served if not given.")]
APIKey = Annotated[
    str,
    typer.Option(envvar="OPENAI_API_KEY", show_default=False, help="API key, if the gateway asks for one."),
]
AtOnce = Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")]
LOCAL = "http://127.0.0.1:8000/v1"
SERVER_ERRORS = 500  # HTTP statuses from here on are the server's failures


def ask(
    picture: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A picture.")],
    question: Annotated[str, typer.Argument(help="What to ask about it.")],
    *,
    base_url: BaseURL = LOCAL,
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 256,
    api_key: APIKey = "",
) -> None:
    """Ask a running gateway about a picture, and print its answer as it arrives."""
    from gateway.cli.asking import answer

    with _client_errors(base_url, api_key):
        for piece in answer(picture, question, base_url, model, max_tokens, api_key=api_key):
            sys.stdout.write(piece)
            sys.stdout.flush()
    sys.stdout.write("\n")


def batch(
    source: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Requests, in OpenAI's batch format.")
    ],
    target: Annotated[
        Path, typer.Argument(dir_okay=False, help="Answers; requests it already has are skipped.")
    ],
    base_url: BaseURL = LOCAL,
    at_once: AtOnce = 16,
    api_key: APIKey = "",
) -> None:
    """Answer a file of requests on a running gateway. If stopped, run it again to continue."""
    from gateway.cli import bulk

    server = bulk.Gateway(base_url, api_key, at_once)
    _report(server, lambda: bulk.batch(source, target, server, errors), target)


def caption(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Pictures, also in folders below.")
    ],
    *,
    prompt: Annotated[str, typer.Option(help="What to ask about each.")] = "Describe the image.",
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Write NAME.txt beside each picture.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the captions that are there already.")
    ] = False,
    base_url: BaseURL = LOCAL,
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(help="Longest caption.")] = 256,
    at_once: AtOnce = 16,
    api_key: APIKey = "",
) -> None:
    """Caption the pictures of a folder, into captions.jsonl there or text files beside them."""
    from gateway.cli import bulk

    server = bulk.Gateway(base_url, api_key, at_once)
    task = bulk.Captions(prompt, model=model, max_tokens=max_tokens, sidecar=sidecar, overwrite=overwrite)
    _report(
        server,
        lambda: bulk.caption(folder, task, server, errors),
        folder if sidecar else folder / "captions.jsonl",
    )


def _report(server: "Gateway", run: "Callable[[], Coroutine[Any, Any, Tally]]", target: Path) -> None:
    """Run a command of many requests and print how it went. Exits with FAILED if some failed."""
    from gateway.cli.bulk import BadInput

    try:
        with _client_errors(server.base_url, server.api_key):
            tally = asyncio.run(run())
    except BadInput as error:
        raise refused(str(error)) from None
    except KeyboardInterrupt:
        errors.print("stopped; run it again to continue")
        raise typer.Exit(128 + signal.SIGINT) from None
    errors.print(
        f"{target}: {tally.done} answered, {tally.failed} failed, {tally.before} were there before",
        markup=False,
        highlight=False,
    )
    if tally.failed:
        raise typer.Exit(ExitCode.FAILED)


@contextmanager
def _client_errors(base_url: str, api_key: str) -> Iterator[None]:
    """Print in one line what OpenAI's client raises, and exit with the code for it."""
    import openai

    try:
        yield
    except openai.APIConnectionError:
        message = f"no gateway answers at {base_url}; `make serve` starts one"
        raise refused(message, ExitCode.NO_SERVER) from None
    except openai.AuthenticationError as error:
        raise refused(_key_problem(base_url, api_key, str(error)), ExitCode.UNAUTHORIZED) from None
    except openai.APIStatusError as error:
        code = ExitCode.SERVER_ERROR if error.status_code >= SERVER_ERRORS else ExitCode.REFUSED
        raise refused(str(error), code) from None


def _key_problem(base_url: str, api_key: str, answer: str) -> str:
    if not api_key:
        return f"the gateway at {base_url} asks for an API key; pass --api-key or set OPENAI_API_KEY"
    return f"the gateway at {base_url} refused the API key: {answer}"
