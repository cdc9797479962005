"""Prints the start to a terminal: the profile, the download, the stages and a first request."""

import asyncio

from rich.console import Console

from engine_config import hub, report
from engine_config.choice import Choice
from engine_config.profile import EngineProfile
from gateway.api.examples import PICTURE
from gateway.engine.supervisor import Supervisor
from gateway.settings import Settings

TICK = 5.0  # seconds between two progress lines, if there is no terminal


def announce(choice: Choice, console: Console) -> None:
    """Print the profile, why it was chosen, and what will be downloaded for it."""
    profile = choice.profile
    console.print(f"[bold]{profile.name}[/bold]: {profile.summary} Chosen because {choice.reason}.")
    if choice.plan is not None:
        console.print(report.line(choice.plan))
    if fetched := _download(profile):
        console.print(fetched)


async def watch(supervisor: Supervisor, hint: str, console: Console) -> None:
    """Show the stages of the start, then `hint`."""
    if console.is_terminal:
        with console.status("") as line:
            while not supervisor.ready:
                line.update(f"{supervisor.stage} … {supervisor.elapsed:.0f} s")
                await asyncio.sleep(0.2)
    else:
        while not supervisor.ready:
            console.print(f"{supervisor.stage} … {supervisor.elapsed:.0f} s")
            await _ready_within(supervisor, TICK)
    console.print(f"[bold green]ready[/bold green] after {supervisor.elapsed:.0f} s")
    console.print(hint, markup=False)


def hint(settings: Settings, profile: EngineProfile, *, page: bool, keyed: bool) -> str:
    """Return the gateway's addresses, usable on this machine, and an example request."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # these are mapped, not listened on
    host = everywhere.get(settings.host, settings.host)
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    lines = [f"page  {address}"] if page else []
    lines.append(f"API   {address}/v1")
    if keyed:
        lines.append("An API key is required: set OPENAI_API_KEY to one of yours, then try:\n")
    else:
        lines.append("Try:\n")
    return "\n".join([*lines, _example(f"{address}/v1", profile.served_name, keyed=keyed)])


async def _ready_within(supervisor: Supervisor, seconds: float) -> None:
    for _ in range(int(seconds / 0.1)):
        if supervisor.ready:
            return
        await asyncio.sleep(0.1)


def _download(profile: EngineProfile) -> str | None:
    """Return a line about the download that the start needs, if any."""
    if profile.is_local or hub.find(profile.model, profile.revision) is not None:
        return None
    return (
        f"The weights of {profile.model} are not on this machine: downloading {profile.download_gb:g} GB "
        "from the Hugging Face hub. (Ctrl-C stops it, and the next start continues; `--profile demo` needs "
        "no download.)"
    )


def _example(address: str, model: str, *, keyed: bool) -> str:
    key = ' -H "authorization: Bearer $OPENAI_API_KEY"' if keyed else ""
    return (
        f"curl {address}/chat/completions -H 'content-type: application/json'{key} -d '"
        f'{{"model": "{model}", "messages": [{{"role": "user", "content": [\n'
        f'  {{"type": "image_url", "image_url": {{"url": "data:image/png;base64,{PICTURE}"}}}},\n'
        f'  {{"type": "text", "text": "What is in the image?"}}]}}]}}\''
        "\n"
    )
