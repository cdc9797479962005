"""Fetches a profile's weights, and shows the progress on the terminal."""

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

from engine_config import hub, progress
from engine_config.profile import EngineProfile

TICK = 5.0  # seconds between two lines if there is no terminal


def fetch(profile: EngineProfile, console: Console) -> Path:
    """Fetch and verify the weights of `profile` and return their folder. Raises HubError."""
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

        def report(at: progress.Progress) -> None:
            bar.update(task, completed=at.done, total=at.total, description=f"{at.doing} {profile.model}")

        return hub.fetch(profile.model, profile.revision, report, verify=True)


def _lines(profile: EngineProfile, console: Console) -> Path:
    printed, complete = -TICK, False

    def report(at: progress.Progress) -> None:
        nonlocal printed, complete
        ends = at.done == at.total and not complete
        if ends or time.monotonic() - printed >= TICK:
            printed, complete = time.monotonic(), at.done == at.total
            console.print(f"{at.doing} {profile.model}: {at}")

    return hub.fetch(profile.model, profile.revision, report, verify=True)
