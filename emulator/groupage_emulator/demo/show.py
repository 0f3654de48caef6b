"""One demo from the first process to the summary."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import yaml

from groupage_emulator.demo import books, checker, summary, world
from groupage_emulator.demo.checker import Rule, Violation
from groupage_emulator.demo.children import POLL_S, Child, Crew, wait_for
from groupage_emulator.demo.fleet import Fleet
from groupage_emulator.demo.options import Options
from groupage_emulator.demo.producer import Spec
from groupage_emulator.demo.summary import Summary
from groupage_emulator.demo.view import View
from groupage_emulator.demo.watch import Figures, Watch
from groupage_emulator.redis_server import EmbeddedRedis

LOOK_S: Final = 0.5
READY_S: Final = 20.0
CLEAN_S: Final = 30.0
"""Grace time of remote files, and then some for a machine that is busy with other things."""

STOP_S: Final = 10.0
REDIS_MEMORY: Final = "1gb"


class Demo:
    """One demo.

    Args:
        options: What to do.
        folder: For everything it writes; exists and is empty.
        environment: Of the child processes.
        view: What people see.
    """

    def __init__(self, options: Options, folder: Path, environment: dict[str, str], view: View) -> None:
        self._options, self._folder, self._view = options, folder, view
        self._environment = environment
        self._journal = folder / "emulator.jsonl"
        self._specs: list[Spec] = []
        self._violations: list[Violation] = []

    async def run(self) -> Summary:
        """Run it to its end and judge it.

        Raises:
            ChildError: If a process does not come up, or dies in a way that the demo cannot make good.
            RedisStartError: If the embedded Redis does not start.
        """
        now = asyncio.get_running_loop().time
        started_s = now()
        (logs := self._folder / "logs").mkdir()
        # blocks for a tenth of a second, so that an interrupt cannot come between the start and its counterpart
        with EmbeddedRedis(data_dir=self._folder / "redis", options={"maxmemory": REDIS_MEMORY}) as redis:
            async with Crew(logs, self._environment) as crew:
                ready, emulator = await self._start_emulator(crew)
                async with Watch(redis.url, str(ready["control_url"])) as watch:
                    fleet = await self._start_fleet(crew, ready, redis.url)
                    self._specs = world.producer_specs(self._options, redis.url, self._folder)
                    begun_s = now()
                    await self._follow(watch, fleet, emulator, self._start_producers(crew))
                    wall_s = now() - begun_s
                    await self._clean_up(watch, fleet)
                await self._end(fleet, emulator)
        return self._judge(fleet.killed, wall_s, lambda: now() - started_s)

    async def _start_emulator(self, crew: Crew) -> tuple[dict[str, Any], Child]:
        config, ready_file = self._folder / "emulator.yaml", self._folder / "ready.json"
        config.write_text(yaml.safe_dump(world.emulator_config(self._options), sort_keys=False))
        command = ["groupage_emulator", "--config", str(config), "--ready-file", str(ready_file)]
        command += ["--journal", str(self._journal), "--data-dir", str(self._folder / "emulator")]
        emulator = crew.start("emulator", command)
        await wait_for(emulator, ready_file.exists, READY_S, "did not listen")
        return msgspec.json.decode(ready_file.read_bytes(), type=dict[str, Any]), emulator

    async def _start_fleet(self, crew: Crew, ready: dict[str, Any], redis_url: str) -> Fleet:
        settings, spool = self._folder / "worker.yaml", self._folder / "spool"
        spool.mkdir()
        config = world.worker_config(ready["regions"], redis_url, spool)
        settings.write_text(yaml.safe_dump(config, sort_keys=False))
        fleet = Fleet(crew, settings, self._view)
        await fleet.start(self._options.workers)
        self._view.note(f"{self._options.workers} workers, 3 regions and 3 producers are at work")
        return fleet

    def _start_producers(self, crew: Crew) -> list[Child]:
        producers = []
        for spec in self._specs:
            path = self._folder / f"{spec.name}.json"
            path.write_bytes(msgspec.json.encode(spec))
            command = ["groupage_emulator.demo.producer", str(path)]
            producers.append(crew.start(f"producer-{spec.name}", command))
        return producers

    async def _follow(self, watch: Watch, fleet: Fleet, emulator: Child, producers: list[Child]) -> None:
        """Show what happens until every producer has all its replies, or nothing happens any more."""
        options, now = self._options, asyncio.get_running_loop().time
        will_kill = options.kills_worker
        settled, moved_s, looked_s = -1, now(), 0.0
        while not all(_is_done(producer) for producer in producers):
            await asyncio.sleep(POLL_S)
            fleet.replace_dead()
            _must_run(emulator)
            if now() - looked_s < LOOK_S:
                continue
            looked_s = now()
            figures = await _look(watch)
            if figures is None:
                continue
            self._view.show(figures)
            if figures.settled != settled:
                settled, moved_s = figures.settled, now()
            if will_kill and figures.settled * 2 >= options.requests:
                will_kill = False
                fleet.kill_one()
            if now() - moved_s > options.stall_s:
                self._view.note(f"no reply for {options.stall_s:g} s: giving up")
                return
        if will_kill:
            self._violations.append(Violation(Rule.NOT_TRIED, "all was done before a worker could be killed"))
        self._view.note("every producer has its replies; waiting until the fleet has cleaned up")

    async def _clean_up(self, watch: Watch, fleet: Fleet) -> None:
        """Wait until nothing is left at the regions and in Redis; what stays is a violation."""
        now = asyncio.get_running_loop().time
        end_s = now() + CLEAN_S
        left: list[str] = []
        while now() < end_s:
            fleet.replace_dead()
            figures = await _look(watch)
            if figures is not None:
                self._view.show(figures)
                left = await watch.left()
                if not left and not any(region.files for region in figures.regions.values()):
                    return
            await asyncio.sleep(LOOK_S)
        self._violations += [Violation(Rule.STATE_LEFT, what) for what in left]

    async def _end(self, fleet: Fleet, emulator: Child) -> None:
        """End workers and emulator in order; the journal is complete then."""
        await fleet.stop()
        self._violations += fleet.violations
        emulator.signal(signal.SIGTERM)
        await wait_for(emulator, lambda: emulator.exit_status() == 0, STOP_S, "did not end after SIGTERM")

    def _judge(self, killed: int, wall_s: float, total_s: Callable[[], float]) -> Summary:
        notebooks = {spec.name: Path(spec.journal) for spec in self._specs}
        histories, entries = books.read_all(notebooks, self._journal)
        self._violations += checker.check(histories, entries, world.PRICES)
        if len(histories) != self._options.requests:
            what = f"{len(histories)} requests were asked, not {self._options.requests}"
            self._violations.append(Violation(Rule.LOST, what))
        return summary.summarise(
            histories,
            entries,
            self._violations,
            prices=world.PRICES,
            online_price_ratio=world.ONLINE_PRICE_RATIO,
            killed=killed,
            wall_s=wall_s,
            total_s=total_s(),
        )


def _is_done(producer: Child) -> bool:
    """Whether a producer has all its replies.

    Raises:
        ChildError: If it ended otherwise; nobody else has its tickets.
    """
    status = producer.exit_status()
    if status:
        raise producer.error(f"ended with status {status}")
    return status == 0


def _must_run(emulator: Child) -> None:
    if (status := emulator.exit_status()) is not None:
        raise emulator.error(f"ended with status {status}")


async def _look(watch: Watch) -> Figures | None:
    """The newest figures; None when a busy emulator did not answer in time, which the next look makes good."""
    try:
        return await watch.look()
    except (aiohttp.ClientError, TimeoutError) as error:
        sys.stderr.write(f"groupage demo: the view is late ({type(error).__name__})\n")
        return None
