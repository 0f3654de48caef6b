"""The tool on a terminal: a view that is painted again and again, and a question before a change."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from groupage import keys
from tests.cli.tool import Tool
from tests.support.fleet import Fleet

PAINT = b"\x1b[H\x1b[J"


class Screen:
    """A terminal with the tool in it."""

    def __init__(self, *words: str, config: Path) -> None:
        self._terminal, inside = pty.openpty()
        # whoever is started in the background ignores Ctrl-C, and hands that down; a terminal does not
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "groupage_worker.operator", *words, "--config", str(config)],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)
        os.close(inside)
        self.text = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    async def _read(self) -> bytes:
        """What is on the screen next; nothing once the process has gone."""
        try:
            return await asyncio.to_thread(os.read, self._terminal, 65_536)
        except OSError:
            # a terminal whose last process has gone
            return b""

    async def read_until(self, words: bytes, times: int = 1) -> None:
        """Read until something was said so many times.

        Raises:
            AssertionError: If the process ends first.
        """
        while self.text.count(words) < times:
            piece = await self._read()
            assert piece, self.text
            self.text += piece

    def type(self, words: bytes) -> None:
        """What a person types."""
        os.write(self._terminal, words)

    async def end(self) -> int:
        """Read on to the end of the process (it cannot end while the screen is full); its exit status."""
        while piece := await self._read():
            self.text += piece
        return await asyncio.to_thread(self.process.wait, 30)


async def test_the_view_is_painted_until_ctrl_c(fleet: Fleet, tool: Tool) -> None:
    """On a terminal `status` shows the newest figures again and again; Ctrl-C ends it without a traceback."""
    with Screen("status", "--every", "0.1", config=tool.config) as screen:
        await screen.read_until(PAINT, 2)
        await fleet.submit(7)
        await screen.read_until(b"  7  ")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.end() == 130
        assert b"Ctrl-C ends this view" in screen.text
        assert b"Traceback" not in screen.text


async def test_a_question_is_answered(fleet: Fleet, tool: Tool) -> None:
    """On a terminal a change is named and asked for: anything but yes changes nothing, yes does it."""
    name = next(iter(fleet.settings.deployments))
    for answer, status in ((b"\n", 2), (b"no\n", 2), (b"y\n", 0)):
        with Screen("drain", name, "--reason", "moving", config=tool.config) as screen:
            await screen.read_until(b"[y/N]")
            assert f"{name} gets no new batch".encode() in screen.text
            assert not await fleet.redis.hexists(keys.deployment(name), "drained_at_ms")
            screen.type(answer)
            assert await screen.end() == status
    assert await fleet.redis.hexists(keys.deployment(name), "drained_at_ms")
