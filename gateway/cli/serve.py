"""The commands `serve`, `fetch` and `plan`: one profile on this machine."""

import os
import signal
import sys
from typing import Annotated

import typer

from engine_config import machine, torch_companions
from engine_config import profile as profiles
from engine_config.choice import CannotRun, choose, installed_engine
from engine_config.preflight import SetupFailed
from gateway.cli.common import ExitCode, choose_profile, dumped, errors, refused
from gateway.cli.options import Json


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile, or the path of one.")] = None,
) -> None:
    """Serve in the foreground until SIGINT or SIGTERM."""
    # Before the imports below, which take seconds: a machine that cannot run this is reported at once.
    settings, choice = choose_profile(host=host, port=port, profile=profile)
    engine = installed_engine()
    if engine is None:
        extra = "gpu" if choice.plan is not None and choice.plan.gpu else "cpu"
        raise refused(f"vLLM is not installed; pip install 'llava-gateway[{extra}]'", ExitCode.FAILED)
    if engine == "cpu":
        _prepare_start()
    from gateway.engine import fork_server

    fork_server.start_if_useful(settings, engine, choice.profile)  # It imports while we import what follows.
    try:
        from gateway.access.callers import access_problem
        from gateway.access.limits import limits_problem
        from gateway.api.routes.playground import examples_problem
        from gateway.app import state_problem
        from gateway.serving.process import port_problem, run

        for found in (access_problem, limits_problem, examples_problem, state_problem):
            if problem := found(settings):
                raise refused(problem)
        if problem := port_problem(settings):
            raise refused(problem, ExitCode.FAILED)
        run(settings, choice)
    finally:
        fork_server.stop()  # After a refusal: `run` does not return.


def _prepare_start() -> None:
    try:
        for done in torch_companions.prepare_start():
            errors.print(done, highlight=False, soft_wrap=True)
        torch_companions.check_libnuma()
    except SetupFailed as failed:
        raise refused(str(failed), ExitCode.FAILED) from None


def fetch(
    profile: Annotated[str | None, typer.Option(help="Profile, or the path of one.")] = None,
) -> None:
    """Fetch a profile's weights from the Hugging Face hub, verify them and print their folder."""
    from engine_config.hub import HubError
    from gateway.cli import fetch_progress

    _, choice = choose_profile(unchecked=True, profile=profile)
    chosen = choice.profile
    errors.print(
        f"[bold]{chosen.name}[/bold]: {chosen.summary} Chosen because {choice.reason}.",
        highlight=False,
        soft_wrap=True,
    )
    try:
        folder = fetch_progress.fetch(chosen, errors)
    except HubError as error:
        raise refused(str(error), ExitCode.FAILED) from None
    except KeyboardInterrupt:
        errors.print("stopped; what is here is kept, and the next run continues")
        os._exit(128 + signal.SIGINT)  # A thread may still wait for bytes.
    sys.stdout.write(f"{folder}\n")


def plan(
    profile: Annotated[str | None, typer.Option(help="Profile, or the path of one.")] = None,
    gpu: Annotated[str | None, typer.Option(help=f"As if on this GPU: {', '.join(machine.KNOWN)}.")] = None,
    memory: Annotated[float | None, typer.Option(help="As if on an (Ampere) GPU with this many GiB.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="As if there were this many of them.")] = None,
    *,
    table: Annotated[bool, typer.Option("--table", help="Every profile on every known GPU.")] = False,
    json: Json = False,
) -> None:
    """Show what fits on this machine or another: memory, chats at once, and the profile that is chosen."""
    from engine_config import plan_data, report

    if table:
        sys.stdout.write(dumped(plan_data.table_data()) if json else report.table())
        return
    try:
        here = report.machine_of(gpu, memory, count)
        engine = installed_engine() if here is None else None
        choice = choose(profile, here or machine.look(), engine)
    except (CannotRun, profiles.ProfileError, report.UnknownGPU) as error:
        raise refused(
            str(error), ExitCode.FAILED if isinstance(error, CannotRun) else ExitCode.USAGE
        ) from None
    sys.stdout.write(dumped(plan_data.choice_data(choice)) if json else report.text(choice))
