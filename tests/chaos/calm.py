"""After the storm: everybody is told to stop, and everything has to come to rest."""

import asyncio
import functools
import signal
import time
from collections.abc import Mapping

from groupage import keys
from groupage_emulator.demo.children import Child, wait_for
from tests.chaos.storm import WAIT_S, Process, Site
from tests.chaos.toll import Figures

LOOK_S = 0.05
EXIT_S = 20.0
"""What the issue allows between SIGTERM and the end of a process."""


class Calm:
    """The end of a storm on one site.

    Args:
        site: With its workers.
        producers: That are still asking.
        figures: Of the storm; what does not end in time is a failure.
    """

    def __init__(self, site: Site, producers: Mapping[str, Child], figures: Figures) -> None:
        self._site, self._producers, self._figures = site, producers, figures

    async def drain(self, victim: Process) -> None:
        """SIGTERM, and how long the process takes to end in order."""
        victim.is_stopped = True  # nobody else shall touch it meanwhile
        self._figures.counts["drains"] += 1
        started = time.monotonic()
        victim.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(EXIT_S):
                await victim.ended.wait()
        except TimeoutError:
            self._figures.failures.append(
                f"SIGTERM: still running after {EXIT_S} s; its log ends: {victim.log.read_text()[-300:]}"
            )
            victim.signal(signal.SIGKILL)
            await victim.ended.wait()
            return
        self._figures.exits_s.append(time.monotonic() - started)
        if victim.status != 0:
            self._figures.failures.append(
                f"SIGTERM: exit status {victim.status}: {victim.log.read_text()[-600:]}"
            )

    async def come_to_rest(self) -> None:
        """No misfortune any more: every request gets its reply, every batch ends."""
        site, started = self._site, time.monotonic()
        site.proxy.heal()
        site.emulator.faults.remove()
        for child in self._producers.values():
            child.signal(signal.SIGTERM)
        for child in self._producers.values():
            try:
                await wait_for(child, functools.partial(_ended_well, child), 2 * WAIT_S, "got no reply")
            except Exception as error:  # noqa: BLE001 - the judge shall still see the rest
                self._figures.failures.append(f"I11 {error}")
        await self._until_no_batches()
        await self._until_swept()
        self._figures.settled_after_s = round(time.monotonic() - started, 1)
        for victim in list(site.alive()):
            await self.drain(victim)

    async def _until_no_batches(self) -> None:
        started = time.monotonic()
        while left := await self._site.fences():
            if time.monotonic() - started > WAIT_S:
                records = {
                    name: {
                        key.decode(): value.decode("utf-8", "replace")
                        for key, value in (await self._site.redis.hgetall(keys.batch(name))).items()
                    }
                    for name in left
                }
                self._figures.failures.append(f"I11 batches are left after {WAIT_S} s: {records}")
                return
            await asyncio.sleep(LOOK_S)

    async def _until_swept(self) -> None:
        """The janitor's turn, again and again: what it finds younger than the grace time is for its next one.

        Nobody waits for its two minutes here. What is left after a minute of turns is for the judge.
        """
        site, started = self._site, time.monotonic()
        turns = [f"sweep:{region}" for region in site.emulator.regions]
        while True:
            await site.redis.zadd(keys.DUE_LIGHT, dict.fromkeys(turns, 0))
            while any([await site.redis.zscore(keys.DUE_LIGHT, turn) == 0 for turn in turns]):
                if time.monotonic() - started > WAIT_S:
                    self._figures.failures.append(f"I11 a sweep was due for {WAIT_S} s and did not run")
                    return
                await asyncio.sleep(LOOK_S)
            left = site.emulator.journal.summary()
            if time.monotonic() - started > WAIT_S or not (left.open_files or left.open_batches):
                return


def _ended_well(child: Child) -> bool:
    return child.exit_status() == 0
