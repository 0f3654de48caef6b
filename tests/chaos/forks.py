"""Processes of a sweep: forked from one that has everything loaded and no thread, so that each costs milliseconds."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

ALARM_S = 60
"""No process of a run takes longer in real time."""


class ProcessError(Exception):
    """A process of a run ended in a way that nobody asked for."""


def fork(act: Callable[[], None], log: Path) -> int:
    """Run something in a forked process; its exit status is 0, or 1 after an exception."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(ALARM_S)
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        act()
        status = 0
    except BaseException:  # noqa: BLE001 - a forked process must not return into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(pid: int) -> int:
    """Wait for a process; its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
