"""The command `llava-gateway fetch`: a profile's weights, with their progress on the terminal."""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from engine_config import download, hub
from engine_config.profile import EngineProfile

TICK = 5.0  # seconds between two lines where there is no terminal


def fetch(profile: EngineProfile, console: Console) -> Path:
    """Fetch and verify what `profile` needs and return its folder. Raises HubError."""
    if profile.is_local:
        folder = Path(profile.model_path)
        if lacking := hub.missing(folder):
            raise hub.HubError(f"{folder} lacks {', '.join(lacking)}")
        return folder
    show = _bar if console.is_terminal else _lines
    return show(profile, console)


def _bar(profile: EngineProfile, console: Console) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(f"fetching {profile.model}", total=None)

        def report(progress: download.Progress) -> None:
            told = f"{progress.doing} {profile.model}"
            bar.update(task, completed=progress.done, total=progress.total, description=told)

        return hub.fetch(profile.model, profile.revision, report, verify=True)


def _lines(profile: EngineProfile, console: Console) -> Path:
    said, whole = -TICK, False

    def report(progress: download.Progress) -> None:
        nonlocal said, whole
        ends = progress.done == progress.total and not whole
        if ends or time.monotonic() - said >= TICK:
            said, whole = time.monotonic(), progress.done == progress.total
            console.print(f"{progress.doing} {profile.model}: {progress}")

    return hub.fetch(profile.model, profile.revision, report, verify=True)
