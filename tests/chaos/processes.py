"""Chaos with real processes: `python -m tests.chaos.processes --kills 200`.

Workers are killed two or three times a second, and now and then stopped for longer than a lease, drained, cut off from
Redis, or left without Redis at all, while producers go on asking and the service misbehaves. Every other time that Redis
is killed the end of its log is cut off as well: it comes back as it was a moment before. At the end everything has to
come to rest, and the judge reads what was left behind.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import redis as blocking_redis

from groupage_emulator import Rule, journal
from groupage_emulator.demo.children import Child, wait_for
from groupage_worker.settings import Settings
from tests.chaos import aof
from tests.chaos.calm import LOOK_S, Calm
from tests.chaos.checker import check
from tests.chaos.history import Bounds, History, Usage, merged, take_dump
from tests.chaos.rig import rules_of
from tests.chaos.storm import WAIT_S, Site, running_site
from tests.chaos.toll import Figures

WORKERS = 4
PRODUCERS = {"shop": 8.0, "mail": 4.0, "crm": 2.0}
"""Name -> requests a second."""

PACE_S = 0.3
"""Mean time between two misfortunes."""

KILLS_PER_OUTAGE = 10
"""After so many kills Redis is killed as well."""

CUTS_BYTES = (100, 10_000, 100_000)
"""At most so much of the log is cut off: from half a command to the last second or two."""

STOP_S = 8.0
"""A stop that outlives the default lease of 6 s."""

BOUNDS = Bounds(rss_bytes=300_000_000, open_files=200, spool_bytes=0)

FAULTS = [
    Rule(kind="reset", when="after", operation="create", times=2),
    Rule(kind="reset", when="after", operation="upload", times=2),
    Rule(kind="reset", when="before", probability=0.3, times=6),
    Rule(kind="http_status", status=503, probability=0.5, times=8),
    Rule(kind="http_status", status=429, headers={"Retry-After": "1"}, times=6),
    Rule(kind="http_status", status=500, operation="create", when="after", times=2),
    Rule(kind="http_status", status=401, times=2),
    Rule(kind="hang", operation="get_batch", times=1, until_s=2),
    Rule(kind="list_lag", seconds=1.0, times=2),
    Rule(kind="file_error", times=1),
    Rule(kind="lines_status", status=429, fraction=0.3, times=2),
    Rule(kind="lines_duplicate", fraction=0.5, times=2),
    Rule(kind="region_off", region="eastus", until_s=3),
    Rule(kind="object_odd", times=4),
    Rule(kind="expire", seconds=0.7, times=1),
]


class Storm:
    """Misfortunes on one site, drawn from a seed."""

    def __init__(self, site: Site, rng: random.Random, kills: int) -> None:
        self._site, self._rng, self._kills = site, rng, kills
        self._beside: set[asyncio.Task[None]] = set()
        self._producers: dict[str, Child] = {}
        self._usage: list[Usage] = []
        self._outage = asyncio.Lock()
        self.figures = Figures()
        self._calm = Calm(site, self._producers, self.figures)

    async def run(self) -> Figures:
        """Storm, then calm, then the judge."""
        started = time.monotonic()
        for _ in range(WORKERS):
            await self._site.start_worker()
        for name, rate in PRODUCERS.items():
            self._producers[name] = await self._site.start_producer(name, rate)
        misfortunes: list[tuple[float, Callable[[], Coroutine[Any, Any, None]]]] = [
            (0.02, self._stop_one),
            (0.02, self._drain_one),
            (0.03, self._break_line),
            (0.05, self._misbehave),
            (0.015, self._kill_producer),
        ]
        while self.figures.kills < self._kills:
            # a storm has its own rhythm; nothing is waited for here
            await asyncio.sleep(self._rng.expovariate(1 / PACE_S))
            for chance, act in misfortunes:
                if self._rng.random() < chance:
                    self._beside_this(act())
            if self.figures.kills % KILLS_PER_OUTAGE == KILLS_PER_OUTAGE // 2:
                self._beside_this(self._lose_redis())
            await self._kill_one()
            while len(self._site.alive()) < WORKERS:
                await self._site.start_worker()
            if self.figures.kills % 10 == 0:
                self._usage += self._site.usage()
        await asyncio.gather(*self._beside)
        await self._calm.come_to_rest()
        self.figures.seconds = round(time.monotonic() - started, 1)
        return self.figures

    def _beside_this(self, act: Coroutine[Any, Any, None]) -> None:
        """Let something happen while the storm goes on."""
        task = asyncio.create_task(act)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _kill_one(self) -> None:
        running = [process for process in self._site.alive() if not process.is_stopped]
        if not running:
            return
        victim = self._rng.choice(running)
        begun: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(blocking_redis.RedisError, OSError):
            begun = {name: at for name, at in (await self._site.fences()).items() if at[1] > 0}
        if victim.is_stopped:
            return  # somebody else has taken it meanwhile
        victim.signal(signal.SIGKILL)
        self.figures.kills += 1
        await victim.ended.wait()
        if begun:
            self._beside_this(self._watch_rerun(begun))

    async def _watch_rerun(self, begun: dict[str, tuple[int, int]]) -> None:
        """How long until each step that was running is done, or begun anew."""
        started, outages = time.monotonic(), self.figures.counts["redis_kills"]
        while begun and time.monotonic() - started < WAIT_S:
            await asyncio.sleep(LOOK_S)  # looking is all that can be done from outside
            try:
                now = await self._site.fences()
            except (blocking_redis.RedisError, OSError):
                return  # Redis went away meanwhile: that is another figure
            if self.figures.counts["redis_kills"] > outages:
                return
            for name, at in list(begun.items()):
                if now.get(name, (-1, 0)) != at:
                    del begun[name]
                    self.figures.reruns_s.append(time.monotonic() - started)
        self.figures.failures += [
            f"I11 the step of batch {name} was not begun again in {WAIT_S} s" for name in begun
        ]

    async def _stop_one(self) -> None:
        running = [process for process in self._site.alive() if not process.is_stopped]
        if len(running) < 2:
            return
        victim = self._rng.choice(running)
        victim.is_stopped = True
        victim.signal(signal.SIGSTOP)
        self.figures.counts["stops"] += 1
        await asyncio.sleep(STOP_S)
        victim.signal(signal.SIGCONT)
        victim.is_stopped = False

    async def _drain_one(self) -> None:
        # before its handlers are set, SIGTERM is as good as SIGKILL
        running = [
            one for one in self._site.alive() if not one.is_stopped and b"app.ready" in one.log.read_bytes()
        ]
        if running:
            await self._calm.drain(self._rng.choice(running))

    async def _break_line(self) -> None:
        proxy = self._site.proxy
        how = self._rng.choice(["cut", "delay", "swallow"])
        self.figures.counts[f"line:{how}"] += 1
        if how == "cut":
            proxy.cut()
            return
        if how == "delay":
            proxy.delay_s = 0.2
        else:
            proxy.swallow()
        await asyncio.sleep(self._rng.uniform(0.5, 4.0))
        proxy.heal()

    async def _lose_redis(self) -> None:
        if self._outage.locked():
            return
        async with self._outage:
            counts = self.figures.counts
            counts["redis_kills"] += 1
            self._site.server.kill()
            if counts["redis_kills"] % 2 == 0 and self._cut_log():
                counts["redis_cuts"] += 1
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))
            # on this thread: the server is bound to the thread that starts it, and it starts in milliseconds
            self._site.server.start()
            started = time.monotonic()
            before = await self._site.dues()
            while await self._site.dues() == before:
                if time.monotonic() - started > WAIT_S:
                    self.figures.failures.append(f"I11 no step in {WAIT_S} s after Redis came back")
                    return
                await asyncio.sleep(LOOK_S)
            self.figures.redis_back_s.append(time.monotonic() - started)

    def _cut_log(self) -> bool:
        """Take off the last bytes that Redis wrote, as a loss of power does; whether anything is gone."""
        path = aof.aof_path(self._site.folder / "redis")
        size = path.stat().st_size
        cut = int(self._rng.choice(CUTS_BYTES) * self._rng.random())
        os.truncate(path, max(0, size - cut))
        return cut > 0

    async def _misbehave(self) -> None:
        self.figures.counts["faults"] += 1
        self._site.emulator.faults.add(self._rng.choice(FAULTS))

    async def _kill_producer(self) -> None:
        name = self._rng.choice(list(self._producers))
        self.figures.counts["producer_kills"] += 1
        child = self._producers.pop(name, None)
        if child is None:
            return
        child.signal(signal.SIGKILL)
        await wait_for(child, lambda: True, 0.0, "")
        async with self._outage:  # a producer that finds no Redis at its start gives up, as it should
            self._producers[name] = await self._site.start_producer(name, PRODUCERS[name])

    def history(self) -> History:
        """What was left behind."""
        site = self._site
        client = blocking_redis.Redis.from_url(site.server.url)
        settings = Settings.model_validate(site.settings(site.server.url))
        notes = merged(sorted(site.folder.glob("diary-*.jsonl")))
        self.figures.requests = sum(1 for _ in {note.name for note in notes})
        return History(
            # an older history forgot what was acknowledged since; whoever lives asks again
            rules=rules_of(settings, forgetful=self.figures.counts["redis_cuts"] > 0),
            notes=notes,
            service=list(site.emulator.journal.records()),
            dump=take_dump(client),
            writes=aof.Replay().run(aof.read_units(aof.aof_path(site.folder / "redis"))),
            logs=site.logs(),
            usage=self._usage,
            bounds=BOUNDS,
        )


async def run_storm(seed: int, kills: int, keep: Path | None = None) -> Figures:
    """One storm; its failures are in the figures, and after a failure all that was left behind is copied to `keep`."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="groupage-storm-") as name:
        async with running_site(Path(name), rng) as site:
            storm = Storm(site, rng, kills)
            figures = await storm.run()
            history = storm.history()
            figures.failures += check(history)
            faults = Counter(r.fault for r in history.service if isinstance(r, journal.Fault))
            figures.counts.update({f"fault:{kind}": n for kind, n in faults.items()})
        if keep is not None and figures.failures:
            # sockets are nothing to copy
            shutil.copytree(name, keep, ignore=shutil.ignore_patterns("*.sock"), dirs_exist_ok=True)
    return figures


def main() -> int:
    """The command; exit status 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder, made for what a storm that failed left behind")
    options = parser.parse_args()
    figures = asyncio.run(run_storm(options.seed, options.kills, options.keep))
    print(json.dumps(figures.summary()))
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
