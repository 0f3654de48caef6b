"""Two releases together, for real: workers and producers of an older revision beside those of this checkout.

    make upgrade-test FROM=<git revision>

Three fleets, each with work of producers of both releases, whose replies readers of both releases read:

- mixed: workers of both releases share the work; each is killed with SIGKILL three times and comes back;
- upgrade: the old worker is killed in the middle and never comes back; the new one ends what it left;
- back: the other way round.

Every request must have its own answer, be billed once, and leave nothing behind in the books.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import yaml
from redis.asyncio import Redis

from groupage import keys
from groupage.connect import connect
from groupage_emulator import Config, Emulator, digest, digest_of_reply
from groupage_emulator.demo.children import Child, Crew, wait_for, wait_until
from groupage_emulator.redis_server import EmbeddedRedis
from tests.acceptance.release_producer import LANE, NAME, WAIT_S, body
from tests.acceptance.site import worker_settings

ROOT = Path(__file__).parents[2]
WAVE = 60
"""Requests of one release in one wave."""
ROUNDS = 3
"""How often each worker is killed and comes back, where both work together."""


class Failed(Exception):
    """The releases do not work together."""


class Release:
    """One release: how its modules are run."""

    def __init__(self, name: str, tree: Path, folder: Path) -> None:
        self.name, self.tree = name, tree
        self.logs = folder / name
        self.logs.mkdir(parents=True)
        # the product of that tree, and the helpers of this one
        path = [*(str(tree / part) for part in ("producers", "worker", "emulator")), str(ROOT)]
        self.crew = Crew(self.logs, {**os.environ, "PYTHONPATH": os.pathsep.join(path)})
        self._started = 0

    def start(self, what: str, *command: str) -> Child:
        """Start one of its modules."""
        self._started += 1
        return self.crew.start(f"{what}-{self._started}", command)

    async def worker(self, settings: Path) -> Child:
        """A worker that is ready."""
        worker = self.start("worker", "groupage_worker", "run", "--config", str(settings))
        await wait_for(worker, lambda: worker.says("app.ready"), WAIT_S, "did not get ready")
        return worker

    async def producer(self, what: str, url: str, first: int, count: int) -> Child:
        """A producer that has submitted, or read, everything."""
        child = self.start(what, "tests.acceptance.release_producer", what, url, str(first), str(count))
        # it says of which tree it is
        done = f"{self.tree / 'producers' / 'groupage' / '__init__.py'} done"
        await wait_for(child, lambda: child.says(done), WAIT_S, f"did not {what}")
        return child

    def errors(self) -> collections.Counter[str]:
        """What its workers logged as errors, by event and code."""
        found: collections.Counter[str] = collections.Counter()
        for log in self.logs.glob("worker-*.log"):
            for line in log.read_text("utf-8", "replace").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    told = json.loads(line)
                    if told.get("level") in {"error", "critical"}:
                        found[f"{told['event']} {told.get('error') or told.get('code') or ''}".strip()] += 1
        return found


class Fleet:
    """A Redis server, an emulated Azure, and the two releases on them."""

    def __init__(
        self, redis: EmbeddedRedis, emulator: Emulator, old: Release, new: Release, folder: Path
    ) -> None:
        self.url, self.emulator, self.old, self.new = redis.url, emulator, old, new
        self.settings = folder / "worker.yaml"
        self.settings.write_text(yaml.safe_dump(worker_settings(redis.url, emulator)))
        self.submitted = self.kills = 0

    async def submit(self, *releases: Release) -> None:
        """A wave of each of these releases' producers."""
        for release in releases:
            await release.producer("submit", self.url, self.submitted, WAVE)
            self.submitted += WAVE

    async def kill(self, worker: Child) -> None:
        """End a worker as a power cut would, once it has something in flight."""
        before = self._batches()
        await wait_until(lambda: self._batches() > before, 10.0)
        worker.signal(signal.SIGKILL)
        self.kills += 1

    def _batches(self) -> int:
        return sum(len(region.batches) for region in self.emulator.regions.values())

    async def check(self) -> str:
        """Read everything with readers of both releases, and look at the books.

        Returns:
            The figures, for people.

        Raises:
            Failed: If anything is not as it must be.
        """
        readers = await asyncio.gather(
            *(release.producer("read", self.url, 0, self.submitted) for release in (self.old, self.new))
        )
        for child in readers:
            self._check_replies(child)
        billed = self.emulator.journal.summary().billed
        wrong = {name: n for name, n in billed.items() if n != 1}
        if wrong or len(billed) != self.submitted:
            raise Failed(f"{len(billed)} of {self.submitted} billed; not once: {wrong}")
        client: Redis[bytes] = connect(self.url)
        try:
            books = await self._books(client)
            await wait_until_async(lambda: self._is_at_rest(client), WAIT_S)
        finally:
            await client.aclose()
        errors = {release.name: dict(release.errors()) for release in (self.old, self.new)}
        return (
            f"{self.submitted} requests, {self._batches()} batches, {self.kills} kills, {books}; "
            f"all replies read by both releases, each billed once; errors in logs: {errors}"
        )

    def _check_replies(self, child: Child) -> None:
        replies = {}
        for line in child.log.read_text().splitlines():
            if line.startswith("["):
                name, status, answer = json.loads(line)
                replies[name] = (status, digest_of_reply(answer))
        expected = {f"r{n}": ("succeeded", digest(body(n))) for n in range(self.submitted)}
        if replies != expected:
            bad = sorted(name for name in expected if replies.get(name) != expected[name])
            raise child.error(f"read {len(replies)} of {self.submitted}; wrong: {bad[:5]}")

    async def _books(self, client: "Redis[bytes]") -> str:
        load = {k.decode(): v for k, v in (await client.hgetall(keys.load(LANE))).items()}
        mine = {k.decode(): v for k, v in (await client.hgetall(keys.producer_load(LANE, NAME))).items()}
        for counters in (load, mine):
            open_, done, all_ = (
                int(counters.get(name, 0)) for name in ("open_requests", "settled_total", "submitted_total")
            )
            if (open_, done, all_) != (0, self.submitted, self.submitted):
                raise Failed(f"books: open {open_}, settled {done}, submitted {all_} of {self.submitted}")
        waiting = {name: int(n) for name, n in load.items() if name.startswith("waiting_") and int(n)}
        if waiting:
            raise Failed(f"books: something waits that is not there: {waiting}")
        return "books right"

    async def _is_at_rest(self, client: "Redis[bytes]") -> bool:
        """Whether no batch is open and no token reserved."""
        for due in (keys.DUE_LIGHT, keys.DUE_HEAVY):
            if any(step.startswith(b"batch:") for step in await client.zrange(due, 0, -1)):
                return False
        return not [key async for key in client.scan_iter(match=keys.quota("*"))]


async def wait_until_async(is_true: Callable[[], Any], timeout_s: float) -> None:
    """Look again and again.

    Raises:
        Failed: When the time is over.
    """
    end_s = time.monotonic() + timeout_s
    while not await is_true():
        if time.monotonic() > end_s:
            raise Failed(f"not at rest within {timeout_s:g} s")
        await asyncio.sleep(0.2)


async def mixed(fleet: Fleet) -> None:
    """Workers of both releases share the work; each is killed again and again."""
    old, new = await fleet.old.worker(fleet.settings), await fleet.new.worker(fleet.settings)
    for _ in range(ROUNDS):
        await fleet.submit(fleet.old, fleet.new)
        await fleet.kill(old)
        await fleet.submit(fleet.new, fleet.old)
        old = await fleet.old.worker(fleet.settings)
        await fleet.kill(new)
        new = await fleet.new.worker(fleet.settings)


async def replaced(fleet: Fleet, first: Release, second: Release) -> None:
    """One release's worker is killed in the middle of its work, and the other's ends it."""
    worker = await first.worker(fleet.settings)
    await fleet.submit(first, second)
    await fleet.kill(worker)
    await second.worker(fleet.settings)
    await fleet.submit(first, second)


SCENARIOS = {
    "mixed": mixed,
    "upgrade": lambda fleet: replaced(fleet, fleet.old, fleet.new),
    "back": lambda fleet: replaced(fleet, fleet.new, fleet.old),
}


@contextlib.asynccontextmanager
async def running(tree: Path, folder: Path) -> AsyncIterator[Fleet]:
    """Servers, and nothing that works on them yet."""
    config = Config(time_scale=200.0)
    for region in config.regions:
        for deployment in region.deployments:
            deployment.enqueued_tokens_max = 20_000
    old, new = Release("old", tree, folder), Release("new", ROOT, folder)
    with EmbeddedRedis(data_dir=folder / "redis") as redis:
        async with Emulator(config) as emulator, old.crew, new.crew:
            yield Fleet(redis, emulator, old, new, folder)


def check_out(revision: str, folder: Path) -> Path:
    """The files of a revision.

    Raises:
        Failed: If the history does not have it, as in a shallow clone.
    """
    archive = folder / "old.tar"
    command = ["git", "-C", str(ROOT), "archive", "--output", str(archive), revision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"--from {revision}: git does not have it ({done.stderr.strip()})")
    tree = folder / "tree"
    with tarfile.open(archive) as tar:
        tar.extractall(tree, filter="data")
    return tree


async def run(revision: str, names: list[str]) -> None:
    """Run scenarios, and print a line of figures for each."""
    with tempfile.TemporaryDirectory(prefix="groupage-upgrade-") as home:
        tree = check_out(revision, Path(home))
        for name in names:
            folder = Path(home) / name
            folder.mkdir()
            began = time.monotonic()
            async with running(tree, folder) as fleet:
                await SCENARIOS[name](fleet)
                figures = await fleet.check()
            print(f"{name}: {figures}; {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    """Run from the command line; 1 if the releases do not work together."""
    parser = argparse.ArgumentParser(prog="upgrade-test", description="Two releases together, for real.")
    parser.add_argument("--from", dest="revision", required=True, help="git revision of the older release")
    parser.add_argument("--only", choices=sorted(SCENARIOS), action="append", help="only this fleet")
    args = parser.parse_args()
    try:
        asyncio.run(run(args.revision, args.only or list(SCENARIOS)))
    except Failed as error:
        print(f"FAILED {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
