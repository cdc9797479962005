"""Commands of `llava-gateway`, run in this process against a gateway of a test."""

import asyncio
from pathlib import Path

from typer.testing import CliRunner, Result

from gateway.cli import app
from tests.servers import Gateway


async def invoke(gateway: Gateway, *arguments: str | Path, given: bytes = b"", **environment: str) -> Result:
    """Run a command with `given` on its standard input."""
    words = [*map(str, arguments), "--base-url", gateway.api]
    return await asyncio.to_thread(CliRunner().invoke, app, words, input=given, env=environment)


async def run(gateway: Gateway, *arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Return the command's exit code and its standard error."""
    result = await invoke(gateway, *arguments, given=b"", **environment)
    return result.exit_code, result.stderr
