"""Exit codes, the console for errors, and the choice of a profile, for all commands."""

import ipaddress
from enum import IntEnum
from typing import Any, Self
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from engine_config import machine
from engine_config import profile as profiles
from engine_config.choice import CannotRun, Choice, choose, installed_engine
from gateway import settings as configuration

errors = Console(stderr=True, soft_wrap=True)


class ExitCode(IntEnum):
    """The exit codes of the commands, for scripts; codes over 128 are signals, as in a shell."""

    FAILED = 1, "some requests failed, or this machine cannot run the profile"
    USAGE = 2, "an argument, a setting or an input file is wrong"
    NO_SERVER = 3, "no gateway answers at the address"
    UNAUTHORIZED = 4, "the gateway asks for an API key, or refuses the one that was sent"
    REFUSED = 5, "the gateway refused the request (another 4xx)"
    SERVER_ERROR = 6, "the gateway failed (5xx)"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        made = int.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made


class BadInput(ValueError):
    """An input file or argument cannot be used; the message says where and why."""


def uses_environment(url: str) -> bool:
    """Return whether requests to `url` use the environment's proxies; those to this machine never do."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")


def choose_profile(
    *, unchecked: bool = False, **chosen: str | int | None
) -> tuple[configuration.Settings, Choice]:
    """Return the settings and the profile for this machine; a mistake in either ends the command.

    With `unchecked`, a profile that is named need not fit here: it may be fetched for another machine.
    """
    try:
        settings = configuration.load(**chosen)
        if unchecked and settings.profile is not None:
            return settings, Choice(profiles.load(settings.profile), "it was asked for")
        return settings, choose(settings.profile, machine.look(), installed_engine())
    except ValidationError as error:
        raise refused(configuration.explain(error)) from None
    except (configuration.UnknownSetting, profiles.ProfileError) as error:
        raise refused(str(error)) from None
    except CannotRun as error:
        raise refused(str(error), ExitCode.FAILED) from None


def dumped(value: Any) -> str:
    """Return indented JSON, for `--json`."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


def refused(message: str, code: ExitCode = ExitCode.USAGE) -> typer.Exit:
    errors.print(f"[red]error:[/red] {escape(message)}", highlight=False)
    return typer.Exit(code)
