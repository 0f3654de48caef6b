"""Containers of the built image, locked down as the chart locks them down. `.ci/image` builds it and says how to run it."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

UID = 10001
MEMORY = "512m"
"""Limit of each container; the chart's default of a worker is the same, which tests/helm holds."""

LOCKED_DOWN = [
    *("--pull", "never", "--network", "host", "--read-only", "--read-only-tmpfs=false"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges", "--memory", MEMORY),
    # runc fails on the machine's own limits inside a container
    *("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:4096"),
]


class Engine:
    """The container engine and the image, as `.ci/image` hands them over.

    Raises:
        RuntimeError: Without `.ci/image`, which builds the image.
    """

    def __init__(self) -> None:
        if "GROUPAGE_PODMAN" not in os.environ or "GROUPAGE_IMAGE" not in os.environ:
            raise RuntimeError("these tests need a built image: run `make image`")
        self._podman = shlex.split(os.environ["GROUPAGE_PODMAN"])
        self.image = os.environ["GROUPAGE_IMAGE"]

    def call(self, *words: str) -> str:
        """What a podman command prints; its error output is in the failure."""
        done = subprocess.run([*self._podman, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.stdout


class Container:
    """One container; ends and is removed with its block.

    Args:
        engine: Makes it.
        spool: Folder of the host that becomes `/spool`.
        command: What runs in it.
        mounts: Further volumes, `host:container:ro`.
    """

    def __init__(
        self, engine: Engine, spool: Path, command: Sequence[str], mounts: Sequence[str] = ()
    ) -> None:
        spool.mkdir(mode=0o700)
        os.chown(spool, UID, UID)
        volumes = [word for mount in (f"{spool}:/spool", *mounts) for word in ("--volume", mount)]
        self._engine = engine
        self.id = engine.call("create", *LOCKED_DOWN, *volumes, engine.image, *command).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.logs())
        self._engine.call("rm", "--force", "--time", "0", self.id)

    def start(self) -> float:
        """Start it; returns when its process started, Unix seconds, by the engine."""
        self._engine.call("start", self.id)
        # nine digits of a second are three more than Python reads
        whole, _, rest = self.inspect()["State"]["StartedAt"].partition(".")
        fraction, _, zone = rest.partition("+") if "+" in rest else (rest.rstrip("Z"), "", "00:00")
        return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+{zone}").timestamp()

    def waited_for_cpu_s(self) -> float:
        """How long its main thread could run but had to wait for a CPU: the second figure of schedstat, ns."""
        pid = self.inspect()["State"]["Pid"]
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9

    def finish(self) -> int:
        """Wait for its end; returns the exit status."""
        return int(self._engine.call("wait", self.id))

    def stop(self) -> tuple[int, float]:
        """SIGTERM; returns exit status and seconds until the end."""
        started = time.monotonic()
        self._engine.call("kill", "--signal", "TERM", self.id)
        return self.finish(), time.monotonic() - started

    def inspect(self) -> dict[str, Any]:
        """What the engine knows of it."""
        found: dict[str, Any] = json.loads(self._engine.call("inspect", self.id))[0]
        return found

    def logs(self) -> str:
        """Its output."""
        done = subprocess.run(
            [*self._engine._podman, "logs", self.id], capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr


def until(condition: Any, timeout_s: float, what: str) -> float:
    """Ask until it is so; returns when it was, Unix seconds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} within {timeout_s:g} s"
        time.sleep(0.02)
    return time.time()
