"""`python -m groupage_emulator.demo` as a process: what it proves, and what it leaves behind."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)

DEMO = [sys.executable, "-m", "groupage_emulator.demo"]
WAIT_S = 60.0

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")


class Running:
    """A demo in a process group of its own, with its temporary files in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        # not below pytest's own: a unix socket's path must be short
        self.temp = Path(tempfile.mkdtemp(prefix="demo-"))
        self._output = folder / "output.txt"
        with self._output.open("wb") as sink:
            self.process = subprocess.Popen(
                [*DEMO, *arguments],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=os.environ | {"TMPDIR": str(self.temp)},
                process_group=0,
            )

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self._output.read_text("utf-8")

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(WAIT_S)

    def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until something is true, for as long as the demo runs."""
        end_s = time.monotonic() + WAIT_S
        while not is_true():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end_s, self.output
            time.sleep(0.02)

    def until_replies_come(self) -> None:
        """Wait until the work is in full swing."""
        self.until(lambda: re.search(r"out [1-9]", self.output) is not None)

    def children(self, words: str = "") -> set[int]:
        """Its child processes whose command line holds these words."""
        found = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if int(parent) == self.process.pid and words in command:
                    found.add(int(entry.name))
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts demos, and ends what a failed test left running."""
    started: list[Running] = []

    def run(*arguments: str) -> Running:
        started.append(Running(tmp_path, *arguments))
        return started[-1]

    yield run
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(WAIT_S)
        shutil.rmtree(demo.temp)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_small_demo_is_right(start: Callable[..., Running], tmp_path: Path) -> None:
    """A small demo with faults ends with status 0, and its JSON summary accounts for every request."""
    out, kept = tmp_path / "out.json", tmp_path / "kept"
    demo = start("--requests", "1500", "--json", str(out), "--keep", str(kept))
    assert demo.wait() == 0, demo.output
    summary = json.loads(out.read_text())
    assert summary["violations"] == []
    assert summary["requests"] == sum(summary["statuses"].values()) == 1500
    assert summary["producers"] == {"shop": 300, "press": 300, "archive": 900}
    assert sum(one["requests"] for one in summary["deployments"]) == summary["statuses"]["succeeded"]
    assert {one["region"] for one in summary["deployments"]} == {"eastus", "westus", "swedencentral"}
    assert {"fail", "reset", "lines_status"} <= set(summary["faults"])
    assert (kept / "emulator.jsonl").exists()
    assert "checked    every request has exactly one right reply" in demo.output


def test_killed_worker_loses_nothing(start: Callable[..., Running], tmp_path: Path) -> None:
    """With a worker killed half-way the demo still ends with status 0."""
    out = tmp_path / "out.json"
    demo = start("--requests", "1500", "--kill-worker", "--json", str(out))
    assert demo.wait() == 0, demo.output
    assert json.loads(out.read_text())["killed"] == 1


@only_linux
def test_worker_killed_from_outside_is_replaced(start: Callable[..., Running]) -> None:
    """A worker that somebody else kills is noticed and replaced, and the demo ends with status 0."""
    demo = start("--requests", "1500", "--calm")
    demo.until_replies_come()
    os.kill(min(demo.children("groupage_worker")), signal.SIGKILL)
    assert demo.wait() == 0, demo.output
    assert "was killed (SIGKILL); started worker-3" in demo.output


def test_exchanged_answers_are_noticed(start: Callable[..., Running], tmp_path: Path) -> None:
    """When the service itself mixes answers up, the demo ends with status 1 and says what is wrong."""
    kept = tmp_path / "kept"
    demo = start("--requests", "1000", "--calm", "--keep", str(kept))
    demo.until((kept / "ready.json").exists)
    control = json.loads((kept / "ready.json").read_text())["control_url"]
    rule = json.dumps({"kind": "lines_swap", "fraction": 1.0, "times": 1}).encode()
    urllib.request.urlopen(f"{control}/_control/faults", rule, timeout=WAIT_S).close()
    assert demo.wait() == 1, demo.output
    assert "a reply was made for another body: " in demo.output
    assert "checked    " not in demo.output


@only_linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(start: Callable[..., Running], number: signal.Signals) -> None:
    """A signal to the whole group, as Ctrl-C sends it, ends with 128 + signal; no process and no file is left."""
    demo = start("--requests", "4000")
    demo.until_replies_come()
    children = demo.children()
    assert len(children) == 7, "Redis, emulator, two workers, three producers"
    os.killpg(demo.process.pid, number)
    assert demo.wait() == 128 + number, demo.output
    assert not [pid for pid in children if is_alive(pid)]
    assert list(demo.temp.iterdir()) == []


@only_linux
def test_kill_leaves_no_process(start: Callable[..., Running]) -> None:
    """Even when the demo itself is killed with -9, its processes end."""
    demo = start("--requests", "4000")
    demo.until_replies_come()
    children = demo.children()
    demo.process.kill()
    demo.wait()
    end_s = time.monotonic() + WAIT_S
    while any(is_alive(pid) for pid in children):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_full_directory_is_refused(tmp_path: Path) -> None:
    """`--keep` refuses a directory with something in it instead of mixing two demos."""
    (tmp_path / "old.jsonl").touch()
    ended = subprocess.run([*DEMO, "--keep", str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "not empty" in ended.stderr


def test_help_teaches() -> None:
    """`--help` says what is shown, what the exit status means, and gives calls to copy."""
    ended = subprocess.run([*DEMO, "--help"], capture_output=True, text=True, check=True)
    for words in ("Exit status: 0 only if", "make demo ARGS=", "--kill-worker", "token_limit_exceeded"):
        assert words in ended.stdout
