"""Failovers that lose acknowledged writes, under load: `python -m tests.chaos.failover --runs 5`.

A primary, a replica and a Sentinel, all real. The replica is stopped for a while, so that it misses what the primary
acknowledges; then the primary dies, and the replica, which knows nothing of the last minutes, takes its place while
batches run. What was acknowledged at level `replicated` must come to its end by itself; what only the primary had is
submitted again under the same ids, as producers do when the epoch changes. Nothing is lost, and nothing is paid twice.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog

from groupage.connect import connect, disconnect
from groupage.contract import Status
from groupage_emulator import digest_of_reply
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, PRODUCER, Fleet, running_fleet
from tests.support.requests import submit
from tests.support.sentinel import Site, sentinel_site

DEADLINE_S = 5 * 86_400.0
CALM_S = 3_600


class Run:
    """One failover."""

    def __init__(self, fleet: Fleet, site: Site, rng: random.Random) -> None:
        self._fleet, self._site, self._rng = fleet, site, rng
        self._bodies: dict[str, bytes] = {}
        self.failures: list[str] = []
        self.lost = 0

    async def run(self) -> None:
        """Work, cut, work, fail over, and come to rest."""
        fleet = self._fleet
        await self._work(self._rng.randint(5, 60))
        safe = dict(self._bodies)
        if await fleet.redis.wait(1, 5_000) < 1:
            self.failures.append("the replica does not follow")
        await self._site.cut_replication()
        await self._work(self._rng.randint(3, 40))
        await self._site.fail_over()
        await fleet.pipeline.beat()
        if not fleet.epochs.is_frozen:
            self.failures.append("H3 the failover was not noticed")
        await self._until_thawed()
        await self._ask_again(set(self._bodies) - set(safe))
        await fleet.settle_all()
        await fleet.close_all()
        await self._judge()

    async def _work(self, turns: int) -> None:
        """Requests come in, steps run, time passes."""
        for _ in range(turns):
            if self._rng.random() < 0.4:
                text = f"run {self._rng.random()}"
                for name in await self._fleet.submit(
                    self._rng.randint(1, 6), text=text, deadline_s=DEADLINE_S
                ):
                    self._bodies[name] = b'{"messages":[{"role":"user","content":"%s %s"}]}' % (
                        text.encode(),
                        name.encode(),
                    )
            await self._fleet.advance(self._rng.choice([1.0, 5.0, 20.0, 60.0]))
            await self._fleet.run_due()
            await self._fleet.pipeline.beat()

    async def _until_thawed(self) -> None:
        for _ in range(CALM_S):
            await self._fleet.run_due()
            if not self._fleet.epochs.is_frozen:
                return
            await self._fleet.advance(1)
        self.failures.append("I11 still frozen")

    async def _ask_again(self, names: set[str]) -> None:
        """What a producer does that hears of a new epoch: the same ids, the same bodies."""
        for name in sorted(names):
            codes = await submit(
                self._fleet.redis,
                LANE,
                PRODUCER,
                name,
                now_ms=self._fleet.clock.now_ms(),
                body=self._bodies[name],
                deadline_s=DEADLINE_S,
            )
            self.lost += codes == "a"

    async def _judge(self) -> None:
        replies = await self._fleet.replies()
        summary = self._fleet.emulator.journal.summary()
        for name in self._bodies:
            reply = replies.get(name)
            if reply is None:
                self.failures.append(f"I1 {name} has no reply")
            elif reply.status is not Status.SUCCEEDED:
                self.failures.append(f"I1 {name} ended as {reply.status}")
            elif {digest_of_reply(reply.body)} != summary.digests[f"{PRODUCER}:{name}"]:
                self.failures.append(f"I4 {name} has the answer of another")
        self.failures += [f"I3 {name} was billed {n} times" for name, n in summary.billed_twice().items()]
        self.failures += [f"I6 {name} was over its quota" for name in summary.over_limit()]
        for deployment in self._fleet.settings.deployments:
            if held := await self._fleet.batches.reservations(deployment):
                self.failures.append(f"I7 {deployment} still holds {held}")


async def run_once(seed: int) -> dict[str, Any]:
    """One failover, from one seed; its figures."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="groupage-failover-") as name:
        async with sentinel_site(Path(name)) as site:
            redis = connect(site.url)
            async with running_fleet(redis, ManualClock()) as fleet:
                run = Run(fleet, site, rng)
                await run.run()
                found = {"requests": len(run._bodies), "lost_writes": run.lost}
            await disconnect(redis)
    return {**found, "failures": [f"seed {seed}: {one}" for one in run.failures]}


def main() -> int:
    """The command; exit status 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # the only line of standard output is the figures
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    started = time.monotonic()
    figures: dict[str, Any] = {"runs": options.runs, "requests": 0, "lost_writes": 0, "failures": []}
    for seed in range(options.seed, options.seed + options.runs):
        for name, value in asyncio.run(run_once(seed)).items():
            figures[name] += value
    figures["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(figures))
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
