"""The command `llava-gateway`: serve, keys, fetch, plan, ask, batch, caption, profiles and more."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine_config import machine
from engine_config import profile as profiles
from engine_config.choice import CannotRun, Choice, choose, installed_engine
from gateway import settings as configuration

if TYPE_CHECKING:
    from gateway.bulk import Tally

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.strip()
)
errors = Console(stderr=True, soft_wrap=True)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile, or the path of one.")] = None,
) -> None:
    """Serve in the foreground until SIGINT or SIGTERM, and leave with 0."""
    # Before the imports below, which take seconds: what cannot run here is said at once.
    settings, choice = _choose(host=host, port=port, profile=profile)
    from gateway.access.callers import access_problem
    from gateway.serving import run

    if problem := access_problem(settings):
        raise _refused(problem)
    run(settings, choice)


keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys in a file.")
app.add_typer(keys, name="keys")
KeysFile = Annotated[
    Path, typer.Option("--file", envvar="GATEWAY_KEYS_FILE", help="The keys file; made where there is none.")
]


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    file: KeysFile,
    klass: Annotated[str | None, typer.Option("--class", help="Class of the file with its limits.")] = None,
) -> None:
    """Make a key and print it, this once; the file keeps its hash."""
    from gateway.access.keys import KeysError, add

    try:
        sys.stdout.write(add(file, name, klass) + "\n")
    except KeysError as error:
        raise _refused(str(error)) from None


@keys.command("list")
def list_keys(file: KeysFile) -> None:
    """List the names in the file."""
    from gateway.access.keys import CallerClass, KeysError, load

    try:
        found = load(file, CallerClass()).by_hash.values()
    except KeysError as error:
        raise _refused(str(error)) from None
    table = Table("name", "class", "created")
    for key in found:
        table.add_row(key.name, key.klass.name, str(key.created or ""))
    Console().print(table)


@keys.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="Whose key.")], file: KeysFile) -> None:
    """Take a key out of the file; a running gateway notices within a second or two."""
    from gateway.access.keys import KeysError, revoke

    try:
        revoke(file, name)
    except KeysError as error:
        raise _refused(str(error)) from None


@app.command()
def fetch(
    profile: Annotated[str | None, typer.Option(help="Profile, or the path of one.")] = None,
) -> None:
    """Fetch a profile's weights from the Hugging Face hub, verify them and say where they are."""
    from engine_config.hub import HubError
    from gateway import fetching

    _, choice = _choose(unchecked=True, profile=profile)
    chosen = choice.profile
    errors.print(
        f"[bold]{chosen.name}[/bold]: {chosen.summary} Chosen because {choice.reason}.",
        highlight=False,
        soft_wrap=True,
    )
    try:
        folder = fetching.fetch(chosen, errors)
    except HubError as error:
        raise _refused(str(error), code=1) from None
    except KeyboardInterrupt:
        errors.print("stopped; what is here is kept, and the next run continues")
        os._exit(128 + signal.SIGINT)  # A thread may still wait for bytes.
    sys.stdout.write(f"{folder}\n")


@app.command()
def plan(
    profile: Annotated[str | None, typer.Option(help="Profile, or the path of one.")] = None,
    gpu: Annotated[str | None, typer.Option(help=f"As if on this GPU: {', '.join(machine.KNOWN)}.")] = None,
    memory: Annotated[float | None, typer.Option(help="As if on a GPU with so many GiB (Ampere).")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="As if there were so many of them.")] = None,
    table: Annotated[bool, typer.Option("--table", help="Every profile on every known GPU.")] = False,
) -> None:
    """Say what fits on this machine or another: memory, chats at once, and the profile that is chosen."""
    from engine_config import report

    if table:
        sys.stdout.write(report.table())
        return
    try:
        here = report.machine_of(gpu, memory, count)
        engine = installed_engine() if here is None else None
        choice = choose(profile, here or machine.look(), engine)
    except (CannotRun, profiles.ProfileError, report.UnknownGPU) as error:
        raise _refused(str(error), code=1 if isinstance(error, CannotRun) else 2) from None
    sys.stdout.write(report.text(choice))


BaseURL = Annotated[str, typer.Option(help="The gateway's address.")]
Model = Annotated[str | None, typer.Option(help="Model; the first that is served if not given.")]
APIKey = Annotated[
    str, typer.Option(envvar="OPENAI_API_KEY", show_default=False, help="API key, if one is asked for.")
]
AtOnce = Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")]
LOCAL = "http://127.0.0.1:8000/v1"


@app.command()
def ask(
    picture: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A picture.")],
    question: Annotated[str, typer.Argument(help="What to ask about it.")],
    *,
    base_url: BaseURL = LOCAL,
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 256,
    api_key: APIKey = "none",
) -> None:
    """Ask a running gateway about a picture, and print its answer as it comes."""
    from gateway.asking import answer

    with _client_errors(base_url):
        for piece in answer(picture, question, base_url, model, max_tokens, api_key=api_key):
            sys.stdout.write(piece)
            sys.stdout.flush()
    sys.stdout.write("\n")


@app.command()
def batch(
    source: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Requests, in OpenAI's batch format.")
    ],
    target: Annotated[Path, typer.Argument(dir_okay=False, help="Answers; what it has is not asked again.")],
    base_url: BaseURL = LOCAL,
    at_once: AtOnce = 16,
    api_key: APIKey = "none",
) -> None:
    """Answer a file of requests on a running gateway. Run again after a stop, it goes on where it was."""
    from gateway import bulk

    server = bulk.Server(base_url, api_key, at_once)
    _report(base_url, lambda: bulk.batch(source, target, server, errors), target)


@app.command()
def caption(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Pictures, also in folders below.")
    ],
    *,
    prompt: Annotated[str, typer.Option(help="What to ask about each.")] = "Describe the image.",
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Write NAME.txt beside each picture.")] = False,
    base_url: BaseURL = LOCAL,
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(help="Longest caption.")] = 256,
    at_once: AtOnce = 16,
    api_key: APIKey = "none",
) -> None:
    """Caption the pictures of a folder, into captions.jsonl there or text files beside them."""
    from gateway import bulk

    server = bulk.Server(base_url, api_key, at_once)
    _report(
        base_url,
        lambda: bulk.caption(
            folder, prompt, server, errors, model=model, sidecar=sidecar, max_tokens=max_tokens
        ),
        folder if sidecar else folder / "captions.jsonl",
    )


@app.command("profiles")
def list_profiles() -> None:
    """List the profiles."""
    table = Table("profile", "model", "download", "what it is")
    for name in profiles.names():
        profile = profiles.load(name)
        size = f"{profile.download_gb:g} GB" if profile.download_gb else "none"
        table.add_row(name, profile.model, size, profile.summary)
    Console().print(table)


@app.command("settings")
def list_settings() -> None:
    """Print every setting, as docs/settings.md has them."""
    sys.stdout.write(configuration.page())


@app.command("parameters")
def list_parameters() -> None:
    """Print what becomes of every field of a request, as Markdown: the page docs/parameters.md."""
    from gateway.schema import parameters

    sys.stdout.write(parameters.page())


def main() -> None:
    app()


def _report(base_url: str, run: "Callable[[], Coroutine[Any, Any, Tally]]", target: Path) -> None:
    """Run a command of many requests and say how it went; leave with 1 where some failed."""
    from gateway.bulk import BadInput

    try:
        with _client_errors(base_url):
            tally = asyncio.run(run())
    except BadInput as error:
        raise _refused(str(error)) from None
    except KeyboardInterrupt:
        errors.print("stopped; run it again to go on")
        raise typer.Exit(128 + signal.SIGINT) from None
    errors.print(
        f"{target}: {tally.done} answered, {tally.failed} failed, {tally.before} were there before",
        markup=False,
        highlight=False,
    )
    if tally.failed:
        raise typer.Exit(1)


@contextmanager
def _client_errors(base_url: str) -> Iterator[None]:
    """Say in a line what OpenAI's client raises, and leave with 2."""
    import openai

    try:
        yield
    except openai.APIConnectionError:
        raise _refused(f"no gateway answers at {base_url}; `make serve` starts one") from None
    except openai.APIStatusError as error:
        raise _refused(str(error)) from None


def _choose(*, unchecked: bool = False, **chosen: str | int | None) -> tuple[configuration.Settings, Choice]:
    """Return the settings and what this machine serves; what is wrong with either ends the command.

    With `unchecked`, a profile that is named need not run here: it may be fetched for another machine.
    """
    try:
        settings = configuration.load(**chosen)
        if unchecked and settings.profile is not None:
            return settings, Choice(profiles.load(settings.profile), "as asked")
        return settings, choose(settings.profile, machine.look(), installed_engine())
    except ValidationError as error:
        raise _refused(configuration.explain(error)) from None
    except (configuration.UnknownSetting, profiles.ProfileError) as error:
        raise _refused(str(error)) from None
    except CannotRun as error:
        raise _refused(str(error), code=1) from None


def _refused(message: str, code: int = 2) -> typer.Exit:
    errors.print(f"[red]error:[/red] {escape(message)}", highlight=False)
    return typer.Exit(code)
