"""What the commands share: the console for errors, and what this machine serves."""

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from engine_config import machine
from engine_config import profile as profiles
from engine_config.choice import CannotRun, Choice, choose, installed_engine
from gateway import settings as configuration

errors = Console(stderr=True, soft_wrap=True)


def choose_profile(
    *, unchecked: bool = False, **chosen: str | int | None
) -> tuple[configuration.Settings, Choice]:
    """Return the settings and what this machine serves; what is wrong with either ends the command.

    With `unchecked`, a profile that is named need not run here: it may be fetched for another machine.
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
        raise refused(str(error), code=1) from None


def refused(message: str, code: int = 2) -> typer.Exit:
    errors.print(f"[red]error:[/red] {escape(message)}", highlight=False)
    return typer.Exit(code)
