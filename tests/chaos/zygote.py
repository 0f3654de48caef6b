"""Starts workers fast: a process with everything loaded that forks one for each line on its standard input.

    {"config": "worker.yaml", "log": "worker-7.log"}     ->  {"started": 4711}
                                                          ->  {"ended": 4711, "status": -9}

A forked worker does what `python -m groupage_worker run --config FILE` does from its `main` on.
"""

import ctypes
import gc
import json
import os
import select
import signal
import sys
import traceback

from groupage_worker.cli import main as worker_main

LOOK_S = 0.02


def serve() -> None:
    """Fork and reap until standard input ends."""
    gc.freeze()
    buffered = b""
    while True:
        readable, _, _ = select.select([0], [], [], LOOK_S)
        if readable:
            data = os.read(0, 65_536)
            if not data:
                return
            *lines, buffered = (buffered + data).split(b"\n")
            for line in lines:
                _say({"started": _fork(**json.loads(line))})
        _reap()


def _fork(config: str, log: str) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
        os.setpgid(0, 0)
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, to in ((null, 0), (sink, 1), (sink, 2)):
            os.dup2(fd, to)
        status = worker_main(["run", "--config", config])
    except BaseException:  # noqa: BLE001 - a forked process must not return into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _say(what: dict[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    serve()
    sys.exit(0)
