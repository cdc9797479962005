"""The command `top`: a running gateway at a glance."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.common import refused, uses_environment
from gateway.cli.options import LOCAL, APIKey, BaseURL, Json, root_of

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.cli.top_view import Watch

QUIT = b"q"


def top(
    base_url: BaseURL = LOCAL,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end, for scripts.")] = False,
    json: Json = False,
    api_key: APIKey = "",
) -> None:
    """Show what a running gateway does: queue, speed, images, KV cache and memory, from its /metrics.

    `q` or Ctrl-C ends it. If the gateway stops answering, its last figures stay until it is back.
    With --json, each look is a line.
    """
    import httpx2
    from rich.console import Console

    from gateway.cli import scrape
    from gateway.cli.top_view import Watch

    url = root_of(base_url)
    console = Console()
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx2.Client(headers=headers, timeout=scrape.TIMEOUT, trust_env=uses_environment(url)) as client:
        watch = Watch(lambda: scrape.scrape(client, url), url)
        try:
            watch.look()
            time.sleep(interval)
            watch.look()
        except scrape.ScrapeError as error:
            raise refused(str(error), error.code) from None
        with suppress(KeyboardInterrupt):
            if json:
                _print_json(watch, interval, once=once)
            elif once:
                console.print(watch.view())
            else:
                _show(watch, console, interval)


def _print_json(watch: "Watch", interval: float, *, once: bool) -> None:
    import orjson

    from gateway.cli.scrape import ScrapeError

    while True:
        sys.stdout.write(orjson.dumps(watch.figures()).decode() + "\n")
        sys.stdout.flush()
        if once:
            return
        time.sleep(interval)
        with suppress(ScrapeError):  # The line shows it.
            watch.look()


def _show(watch: "Watch", console: "Console", interval: float) -> None:
    """Look every `interval` seconds until `q` is pressed. Without a terminal, print each look."""
    from rich.live import Live

    from gateway.cli.scrape import ScrapeError

    with _quit_pressed() as pressed:
        screen = Live(watch.view(), console=console, screen=True)
        try:
            if console.is_terminal:
                screen.start()
            while not pressed(interval):
                with suppress(ScrapeError):  # The view shows it.
                    watch.look()
                if console.is_terminal:
                    screen.update(watch.view(), refresh=True)
                else:
                    console.print(watch.view())
        finally:
            screen.stop()  # also if Ctrl-C came in the middle of `start`


def _never_pressed(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextmanager
def _quit_pressed() -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits some seconds, and returns True at once when `q` is pressed."""
    if not sys.stdin.isatty():
        yield _never_pressed
        return
    import termios
    import tty

    keyboard = sys.stdin.fileno()

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([keyboard], [], [], left)[0]:
                keys = os.read(keyboard, 64)
                if not keys or QUIT in keys.lower():  # nothing: the terminal is gone
                    return True
        return False

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
