"""Child processes: started apart from the terminal, watched, and ended without leaving anyone behind.

Each child is the leader of its own process group, so that Ctrl-C reaches only the demo, which then ends the children
in order. On Linux the kernel kills a child whose parent dies, however that happened.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_S = 0.05
STOP_S = 3.0
"""Time between SIGTERM and SIGKILL when everything is given up."""

TAIL_LINES = 15

_ASK_AND_EXEC = """
import ctypes, os, signal, sys
parent = os.getppid()
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""The same as in `redis_server`, which keeps its own because it must not depend on the demo."""


Condition = Callable[[], bool]


class ChildError(Exception):
    """A child did not do what it had to; the message ends with its last log lines."""


class Child:
    """One process and its log.

    Attributes:
        name: For people; also the name of its log file.
        log: Its standard output and error.
    """

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name, self.log = name, log
        self._process = process

    @property
    def pid(self) -> int:
        """Process id, which is also its group's."""
        return self._process.pid

    def exit_status(self) -> int | None:
        """As of `Popen.poll`: None while it runs, negative for a signal."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its children; harmless when it has ended."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def says(self, words: str) -> bool:
        """Whether its log holds these words."""
        return self.log.exists() and words.encode() in self.log.read_bytes()

    def error(self, what: str) -> ChildError:
        """An error that names it and ends with its last log lines."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        tail = "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"
        return ChildError(f"{self.name} {what}; the end of its log:\n{tail}")


class Crew:
    """All children of one demo; an async context manager that ends them.

    Args:
        logs: Directory of their logs; it exists.
        environment: Theirs; None is ours.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str] | None = None) -> None:
        self._logs = logs
        self._environment = None if environment is None else dict(environment)
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # blocks on purpose: a second interrupt must not come between the children and their end
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in self._children:
                child.signal(number)
            end_s = time.monotonic() + STOP_S
            while self.running() and time.monotonic() < end_s:
                time.sleep(POLL_S)  # noqa: ASYNC251 - see above

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a Python module with arguments, `["groupage_worker", "run"]` for example.

        Must be called on the main thread: the kernel's death signal is bound to the thread that forked.
        """
        log = self._logs / f"{name}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603 - our own modules, our own arguments
                _bound_to_parent([sys.executable, "-m", *command]),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self._environment,
                process_group=0,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def running(self) -> list[Child]:
        """Children that have not ended."""
        return [child for child in self._children if child.exit_status() is None]


def _bound_to_parent(command: list[str]) -> list[str]:
    """The command, run so that the kernel kills it when its parent dies; as it is where there is no prctl."""
    return [sys.executable, "-I", "-S", "-c", _ASK_AND_EXEC, *command] if sys.platform == "linux" else command


async def wait_until(is_true: Condition, timeout_s: float) -> bool:
    """Look again and again; False when the time is over.

    Args:
        is_true: Looked at every `POLL_S`.
        timeout_s: Seconds.
    """
    loop = asyncio.get_running_loop()
    end_s = loop.time() + timeout_s
    while not is_true():
        if loop.time() > end_s:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def wait_for(child: Child, is_true: Condition, timeout_s: float, what: str) -> None:
    """Wait until something is true that the child has to bring about.

    Args:
        child: It.
        is_true: Whether it did.
        timeout_s: Seconds.
        what: For the error, as in `did not listen`.

    Raises:
        ChildError: If it ended first, or the time is over.
    """
    await wait_until(lambda: is_true() or child.exit_status() is not None, timeout_s)
    if is_true():
        return
    status = child.exit_status()
    raise child.error(f"{what} in {timeout_s:g} s" if status is None else f"ended with status {status}")
