"""`llava-gateway top` on a terminal: it follows its size, ends at a key, and outlives the gateway."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rich.cells import cell_len

from tests.scripted_engine import ScriptedEngine
from tests.servers import free_port, scripted_gateway, until

pytestmark = pytest.mark.slow

BACK = b"\x1b[?1049l"  # xterm's code: back from the other screen


class Terminal:
    """A terminal with `top` in it; `written` is what that has written since `forget`."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self.process = process
        self.written = b""
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self.written += os.read(self._master, 65536)
        except OSError:  # Nobody has the other end any more.
            asyncio.get_running_loop().remove_reader(self._master)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", self.written.decode(errors="ignore"))

    async def shows(self, *words: str) -> None:
        """Forget what was shown, and return once all of `words` are shown."""
        self.written = b""
        async with asyncio.timeout(60):
            while not all(word in self.text for word in words):  # noqa: ASYNC110  # a terminal knows no event
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()


def width(text: str) -> int:
    return max(cell_len(line) for line in text.splitlines())


@asynccontextmanager
async def top(url: str) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "top", "--base-url", url, "--interval", "0.2"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C reaches it as a signal.
        env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        | {"TERM": "xterm"},
    )
    terminal = Terminal(master, process)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("keys", [b"q", b"xQ", b"\x03"], ids=["q", "Q", "Ctrl-C"])
async def test_key_ends_it_and_the_terminal_is_as_before(keys: bytes) -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway, top(gateway.url) as terminal:
        await terminal.shows("ready", "yes", "KV cache")
        assert not terminal.echoes()
        terminal.press(keys)
        assert await terminal.ended() == 0
        await until(lambda: BACK in terminal.written)  # what it wrote last may still be on its way
        assert terminal.echoes()
        assert b"Traceback" not in terminal.written


async def test_other_keys_do_nothing() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway, top(gateway.url) as terminal:
        await terminal.shows("ready")
        terminal.press(b"abc \r\x1b[A")
        await terminal.shows("ready", "yes")
        assert terminal.process.returncode is None


async def test_it_follows_the_terminals_size() -> None:
    async with scripted_gateway(ScriptedEngine()) as gateway, top(gateway.url) as terminal:
        await terminal.shows("first token p50 / p99")
        assert width(terminal.text) > 45
        terminal.resize(20, 40)
        terminal.process.send_signal(signal.SIGWINCH)
        async with asyncio.timeout(60):  # Some screens may be under way.
            await terminal.shows("KV cache")
            while width(terminal.text) > 40:
                await terminal.shows("ready", "KV cache")


async def test_gateway_that_goes_away_is_told_until_it_is_back() -> None:
    port = free_port()
    async with scripted_gateway(ScriptedEngine(), port=port) as gateway, top(gateway.url) as terminal:
        await terminal.shows("ready", "yes")
        assert gateway.server is not None
        gateway.server.should_exit = True
        await terminal.shows("nothing answers", "last seen")
        async with scripted_gateway(ScriptedEngine(), port=port):
            await terminal.shows("ready", "yes")
            terminal.written = b""
            await terminal.shows("ready", "yes")
            assert "nothing answers" not in terminal.text
            terminal.press(b"q")
            assert await terminal.ended() == 0
