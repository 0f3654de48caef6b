"""The watchdog: the due sets in `store` say what must run; a wake-up that is missing is made again."""

import asyncio
import random

import structlog
from redis.exceptions import RedisError

from groupage.clock import Clock
from groupage_worker.fleet import WAKE_TTL_MS, Waker
from groupage_worker.metrics import Metrics
from groupage_worker.store import BatchStore

log = structlog.get_logger("fleet")

LATE_MS = 2_000
"""A step overdue by more than this is looked at by the watchdog."""


class Watchdog:
    """Re-creates missing wake-ups from the due sets."""

    def __init__(self, store: BatchStore, waker: Waker, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._waker = waker
        self._clock = clock
        self._metrics = metrics

    async def tick(self) -> int:
        """Look at everything overdue; returns how many wake-ups were missing."""
        made = 0
        for heavy in (False, True):
            before = self._clock.now_ms() - LATE_MS
            async for page in self._store.overdue(heavy=heavy, before_ms=before):
                made += await self._waker.wake_many(page, heavy=heavy)
        if made:
            log.info("fleet.wakeups_recreated", steps=made)
            self._metrics.wakeups_recreated(made)
        return made

    async def start_up(self) -> None:
        """Wake up everything that is scheduled, due or not: at start nothing is known of arq's keys."""
        now = self._clock.now_ms()
        for heavy in (False, True):
            async for page in self._store.overdue(heavy=heavy, before_ms=now + WAKE_TTL_MS):
                await self._waker.wake_many(page, heavy=heavy)

    async def run(self, every_s: float) -> None:
        """Tick for ever; a Redis error only costs one tick."""
        while True:
            try:
                await self.tick()
            except (RedisError, OSError) as error:
                log.warning("fleet.watchdog_failed", error=type(error).__name__)
                self._metrics.worker_error("watchdog", type(error).__name__)
            await asyncio.sleep(every_s * random.uniform(0.8, 1.2))
