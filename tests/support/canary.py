"""What must never leave the product's own stores: prompts, keys and replies, looked for in everything the suite puts out.

Every prompt of the test harness, every key of the emulator and every answer it gives has a form of its own, so that one
expression finds them. Logs go through the product's filter into `WATCH`; files of child processes are read at the end of
each test, metrics at the end of each fleet.
"""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog
from redis.asyncio import Redis

from groupage_worker import logs

CANARIES = re.compile(
    r"hello r\d{5}"  # prompts of `tests.support.fleet`
    r"|The crates are in the yard"  # prompts of `tests.acceptance.site`
    r"|canary-(?:prompt|key|reply)"  # whatever a test plants
    r"|emulator-key-\w"  # keys of the emulator's regions
    r"|sha256:[0-9a-f]{32}|stands for a model's answer"  # answers of the emulator
)

_LOUD = re.compile(r'"level": "(?:warning|error|critical)"')


_SERVICES = frozenset({"emulator.log", "service.log"})
"""Logs of the emulated service, which tells its clients its keys at start."""


def leaks(text: str) -> list[str]:
    """Canaries in a text, each with what is around it."""
    return [text[max(0, found.start() - 60) : found.end() + 20] for found in CANARIES.finditer(text)]


def leaks_in_logs(folder: Path) -> Iterator[str]:
    """Canaries in the log files of a folder, whatever processes of ours wrote them."""
    for path in sorted(folder.rglob("*.log")):
        if path.name in _SERVICES:
            continue
        for found in leaks(path.read_text("utf-8", "replace")):
            yield f"{path.name}: {found}"


class Watch(io.StringIO):
    """A log that is read while it is written; what is loud goes on to standard error, for whoever reads a failure."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def write(self, text: str) -> int:
        """Look at one piece of output and forget it."""
        self.found += leaks(text)
        if _LOUD.search(text):
            sys.stderr.write(f"{text}\n")
        return len(text)


WATCH = Watch()


def watch_logs() -> None:
    """Send all logs of this process, debug included, through the product's filter into `WATCH`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            logs.allow,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.WriteLoggerFactory(file=WATCH),
        cache_logger_on_first_use=False,
    )


async def everything_in(redis: "Redis[bytes]") -> bytes:
    """All keys and values of a server, as whoever reads its memory sees them; a key may go meanwhile."""
    found = []
    for key in await redis.keys("*"):
        kind = await redis.type(key)
        # a dump may be compressed, which would hide a text from the search
        value = await redis.get(key) if kind == b"string" else await redis.dump(key)
        found += [key, value or b""]
    return b"\n".join(found)
