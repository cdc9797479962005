"""Commands of many requests show how far they are: a bar on a terminal, lines now and then in a log."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from gateway.cli import progress
from gateway.cli.parallel import Tally


def test_log_gets_a_line_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    page, tally = io.StringIO(), Tally(before=10)
    with progress.show_progress(40, tally, Console(file=page)) as show:
        for answered in range(40):
            clock.now += 0.5
            tally.done, tally.failed = answered, 1
            show()
    assert page.getvalue().splitlines() == [
        "answered (1 failed) 20 of 50, 2.0/s, 15 s left",
        "answered (1 failed) 30 of 50, 2.0/s, 10 s left",
        "answered (1 failed) 40 of 50, 2.0/s, 5 s left",
        "answered (1 failed) 50 of 50, 2.0/s, 0 s left",
    ]


def test_terminal_gets_a_bar() -> None:
    page, tally = io.StringIO(), Tally(before=1)
    with progress.show_progress(4, tally, Console(file=page, force_terminal=True, width=80)) as show:
        tally.done, tally.failed = 2, 1
        show()
    assert "answered (1 failed)" in page.getvalue()
    assert "4/5" in page.getvalue()
