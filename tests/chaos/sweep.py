"""The crash sweep: one life cycle, killed at every point of its I/O in turn, recovered, and judged.

    python -m tests.chaos.sweep --profile lines            every point once
    python -m tests.chaos.sweep --profile rude --twice     and once more during the recovery from each

Each run: a fresh service, an empty Redis, a process that SIGKILLs itself at point n, another one that recovers, the
checker. Processes are forked from this one, which has everything loaded and no thread, so one costs milliseconds.
"""

import argparse
import dataclasses
import functools
import gc
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import redis

from groupage_emulator import journal
from groupage_emulator.redis_server import EmbeddedRedis
from tests.chaos import aof, profiles
from tests.chaos.checker import check
from tests.chaos.forks import ALARM_S, ProcessError, finish, fork
from tests.chaos.history import Bounds, History, Usage, read_diary, take_dump
from tests.chaos.life import RemoteEmulator, World, load, run_life, serve_emulator
from tests.chaos.rig import rules_of

PHASES = ("before", "sent", "after")

TOTAL_LOSSES = 0.3
"""Share of the losses in which Redis forgets the whole run."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Figures:
    """What a sweep did.

    Attributes:
        points: Of one life without a crash.
        records: What the service noted of that life, by kind.
        spool_left: Runs after which a spool file of the process that died was left on disk.
    """

    profile: str
    points: int = 0
    runs: int = 0
    crashes: int = 0
    double_crashes: int = 0
    spool_left: int = 0
    records: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    failures: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: where the first process dies, where the second does; None for nowhere."""

    die_at: int | None
    again_at: int | None = None


class Sweep:
    """Runs one profile on one Redis server of its own."""

    def __init__(
        self,
        profile: str,
        server: EmbeddedRedis,
        data_dir: Path,
        folder: Path,
        phases: frozenset[str],
        *,
        strict_spool: bool,
    ) -> None:
        self._profile, self._server, self._folder, self._phases = profile, server, folder, phases
        self._what = profiles.PROFILES[profile]()
        self._aof, self._strict_spool = data_dir, strict_spool
        self._client = redis.Redis.from_url(server.url)
        self.figures = Figures(profile=profile)

    def count(self) -> list[str]:
        """The points of a life without a crash, which must be in order as well."""
        return self._judged(Run(die_at=None), "points.json")

    def count_recovery(self, die_at: int) -> list[str]:
        """The points of the recovery from one crash."""
        return self._judged(Run(die_at=die_at), "recovery.json")

    def one(self, run: Run) -> None:
        """One run and its verdict."""
        self._judged(run, "")

    def _judged(self, run: Run, points: str) -> list[str]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        self.figures.runs += 1
        self.figures.crashes += run.die_at is not None
        self.figures.double_crashes += run.again_at is not None
        try:
            wrong = self._run(run, folder)
        except ProcessError as error:
            wrong = [f"process: {error}"]
        found: list[str] = []
        if points and (folder / points).exists():
            found = json.loads((folder / points).read_text())
        if wrong:
            failure = {"profile": self._profile, **dataclasses.asdict(run), "wrong": wrong}
            self.figures.failures.append(failure)
            print(json.dumps(failure), flush=True)
        shutil.rmtree(folder)
        return found

    def _run(self, run: Run, folder: Path) -> list[str]:
        self._client.flushall()
        offset = aof.aof_path(self._aof).stat().st_size
        bare = World(redis_url=self._server.url, folder=folder, profile=self._profile)
        read_fd, write_fd = os.pipe()
        service = fork(lambda: serve_emulator(bare, write_fd), folder / "service.log")
        os.close(write_fd)
        try:
            world = dataclasses.replace(bare, ready=self._ready(read_fd, folder))
            self._live(world, run, offset)
            with urllib.request.urlopen(f"{world.ready['control_url']}/_control/journal") as flushed:
                flushed.read()
            return check(self._history(world, run, offset))
        finally:
            os.close(read_fd)
            os.kill(service, signal.SIGKILL)
            finish(service)

    @staticmethod
    def _ready(read_fd: int, folder: Path) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n"):
            readable, _, _ = select.select([read_fd], [], [], ALARM_S)
            chunk = os.read(read_fd, 65_536) if readable else b""
            if not chunk:
                raise ProcessError(f"the service did not start: {(folder / 'service.log').read_text()}")
            data += chunk
        found: dict[str, Any] = json.loads(data)
        return found

    def _live(self, world: World, run: Run, offset: int) -> None:
        """The life, which may die, and the recovery, which may die as well."""
        deaths = [run.die_at, run.again_at, None]
        log = world.folder / "life.log"
        for number, die_at in enumerate(deaths):
            if number == 1 and die_at is None:
                continue
            is_forgetful = number > 0 and self._what.forgets
            life = functools.partial(
                run_life,
                dataclasses.replace(world, is_forgetful=is_forgetful),
                die_at=die_at,
                phases=self._phases,
                to_rest=number > 0,
                points="points.json" if number == 0 else "recovery.json",
            )
            status = finish(fork(life, log))
            allowed = {0} if die_at is None else {0, -signal.SIGKILL}
            if status not in allowed:
                raise ProcessError(f"status {status}: {log.read_text()[-1500:]}")
            if number == 0 and self._what.forgets and die_at is not None:
                self._forget(die_at, offset)

    def _forget(self, die_at: int, offset: int) -> None:
        """Take off the end of what Redis wrote in this run: for one crash always the same part, now and then all."""
        rng = random.Random(die_at)
        path = aof.aof_path(self._aof)
        self._client.connection_pool.disconnect()
        self._server.kill()
        kept = 0.0 if rng.random() < TOTAL_LOSSES else rng.random()
        os.truncate(path, offset + int(kept * (path.stat().st_size - offset)))
        self._server.start()

    def _history(self, world: World, run: Run, offset: int) -> History:
        profile = self._what
        settings = profile.settings(RemoteEmulator(world.ready), str(world.spool))
        left = sum(file.stat().st_size for file in world.spool.rglob("*") if file.is_file())
        self.figures.spool_left += left > 0
        is_forgetful = profile.forgets and run.die_at is not None
        service = list(journal.read(world.journal))
        if run.die_at is None:
            self.figures.records = dict(Counter(type(record).__name__.lower() for record in service))
        rules = rules_of(
            settings,
            honest_tokens=not is_forgetful,
            online=profile.online,
            deaths=sum(1 for at in (run.die_at, run.again_at) if at is not None),
            forgetful=is_forgetful,
            keeps_files=is_forgetful,
        )
        return History(
            rules=rules,
            notes=read_diary(world.diary),
            service=service,
            dump=take_dump(self._client),
            writes=aof.Replay().run(aof.read_units(aof.aof_path(self._aof), offset)),
            logs={"life.log": (world.folder / "life.log").read_bytes()},
            usage=[Usage(process="life", rss_bytes=0, open_files=0, spool_bytes=left)],
            bounds=Bounds(rss_bytes=0, open_files=0, spool_bytes=0) if self._strict_spool else None,
        )


def sweep(
    profile: str,
    *,
    shard: int = 0,
    shards: int = 1,
    twice: bool = False,
    phases: frozenset[str],
    only: Run | None = None,
    strict_spool: bool = False,
) -> Figures:
    """Run a sweep, or one shard of it.

    Args:
        profile: Name in `profiles.PROFILES`.
        shard: Which points: those whose number leaves this remainder.
        shards: Over how many processes the points are spread.
        twice: Whether each recovery is run again with a crash of its own, at a point drawn with a fixed seed.
        phases: Of `PHASES`.
        only: Just this run.
        strict_spool: Whether a spool file that a crash left behind is a failure.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="groupage-sweep-") as name:
        folder, data_dir = Path(name) / "runs", Path(name) / "redis"
        folder.mkdir()
        with EmbeddedRedis(data_dir=data_dir, options=aof.OPTIONS | {"appendfsync": "no"}) as server:
            runs = Sweep(profile, server, data_dir, folder, phases, strict_spool=strict_spool)
            if only is not None:
                runs.one(only)
            else:
                points = runs.count()
                runs.figures.points = len(points)
                rng = random.Random(shard)
                for number in range(shard, len(points), shards):
                    failed = len(runs.figures.failures)
                    recovery = runs.count_recovery(number)
                    if twice and len(runs.figures.failures) == failed:
                        runs.one(Run(die_at=number, again_at=rng.randrange(len(recovery))))
    runs.figures.seconds = round(time.monotonic() - started, 1)
    return runs.figures


def main() -> int:
    """The command; exit status 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=profiles.PROFILES, default="lines")
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument(
        "--twice", action="store_true", help="crash once more during the recovery from each crash"
    )
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--die-at", type=int, help="just this run")
    parser.add_argument("--again-at", type=int, help="and its second crash")
    parser.add_argument(
        "--strict-spool", action="store_true", help="spool files left by a crash are failures"
    )
    options = parser.parse_args()
    load()
    gc.freeze()
    only = None if options.die_at is None else Run(die_at=options.die_at, again_at=options.again_at)
    figures = sweep(
        options.profile,
        shard=options.shard,
        shards=options.shards,
        twice=options.twice,
        phases=frozenset(options.phases.split(",")),
        only=only,
        strict_spool=options.strict_spool,
    )
    print(json.dumps(dataclasses.asdict(figures)))
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
