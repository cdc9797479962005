"""The command `top`: a running gateway at a glance."""

import time
from contextlib import suppress
from typing import Annotated

import typer

from gateway.cli.ask import APIKey
from gateway.cli.common import refused


def top(
    url: Annotated[str, typer.Option(help="The gateway's address.")] = "http://127.0.0.1:8000",
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end, for scripts.")] = False,
    api_key: APIKey = "none",
) -> None:
    """Show what a running gateway does: queue, speed, images, KV cache and memory, from its /metrics."""
    import httpx2
    from rich.console import Console
    from rich.live import Live

    from gateway import glance

    headers = {"authorization": f"Bearer {api_key}"}
    with httpx2.Client(headers=headers, timeout=glance.TIMEOUT, trust_env=False) as client:
        try:
            before = glance.scrape(client, url)
            time.sleep(interval)
            now = glance.scrape(client, url)
            if once:
                Console().print(glance.view(url, before, now))
                return
            with suppress(KeyboardInterrupt), Live(glance.view(url, before, now), screen=True) as live:
                while True:
                    time.sleep(interval)
                    before, now = now, glance.scrape(client, url)
                    live.update(glance.view(url, before, now))
        except glance.ScrapeError as error:
            raise refused(str(error), code=1) from None
