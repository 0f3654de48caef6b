"""The composition root: builds every part once, runs it, and takes it down in order."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from groupage.clock import SYNC_AGAIN_S, ServerClock, SystemClock
from groupage.connect import connect
from groupage_worker import configfile, heap
from groupage_worker.agenda import Agenda
from groupage_worker.azure.client import AzureClient
from groupage_worker.collector import FleetCollector
from groupage_worker.endings import cancel_all
from groupage_worker.endpoints import files_max
from groupage_worker.fleet import LeasedWorker, Waker, arq_pool, make_worker, serve
from groupage_worker.health import READY_S, Health, HealthServer, LoopWatch
from groupage_worker.metrics import Metrics
from groupage_worker.pipeline import Pipeline
from groupage_worker.reload import Reloader
from groupage_worker.serverinfo import Role
from groupage_worker.settings import RegionSettings, Settings
from groupage_worker.snapshot import RegionSnapshot
from groupage_worker.stages.announcer import announce_lanes
from groupage_worker.stages.context import Context
from groupage_worker.stages.spool import remove_abandoned
from groupage_worker.start import asking, check_servers, reached
from groupage_worker.store import Admission, BatchStore, DeadlineWheel, Epochs, NamedRequests, request_store
from groupage_worker.store.client import RedisClient
from groupage_worker.store.overview import take_snapshot
from groupage_worker.store.traces import TracedBatchStore
from groupage_worker.watchdog import Watchdog
from groupage_worker.work import Work, kind_of

log = structlog.get_logger("app")

HARD_END_S = 10.0
"""After the drain time: how long connections may take to close before the process ends anyway."""

HARD_END_STATUS = 70
SYNC_S = 60.0
"""How long a measurement of the control server's clock is used."""

SNAPSHOT_EVERY_S = 5.0
BEAT_EVERY_S = 1.0
MEMORY_EVERY_S = 2.0
RELOAD_EVERY_S = 2.0


def run(settings: Settings, work: Work = Work.ALL, *, path: Path | None = None) -> int:
    """Work until SIGTERM or SIGINT; returns the exit code.

    Args:
        settings: What this worker is told.
        work: Which steps it takes.
        path: Where the settings come from; read again when it changes.

    Raises:
        ConfigurationError: If a Redis server is dangerous and `redis.allow_unsafe` is off.
        RedisError: If Redis refuses us at start; while it is away, the start waits.
    """
    asyncio.run(App(settings, work, path=path).run())
    return 0


class App:
    """One worker process."""

    def __init__(self, settings: Settings, work: Work = Work.ALL, *, path: Path | None = None) -> None:
        self._settings = settings
        self._path = path
        self._kind = work
        self._agendas = {False: Agenda(), True: Agenda()}
        self._clock = ServerClock(SystemClock(), sync_s=SYNC_S)
        self._metrics = Metrics(CollectorRegistry())
        self._metrics.expect(settings.deployments, settings.regions)
        timeout_s = settings.redis.socket_timeout_s
        self._data: RedisClient = connect(settings.redis.read_data, socket_timeout_s=timeout_s)
        self._control: RedisClient = connect(settings.redis.read_control, socket_timeout_s=timeout_s)
        self._requests = request_store(self._data, clock=self._clock, keys_dir=settings.encryption.keys_dir)
        self._tracing = contextlib.ExitStack()
        self._batches = self._batch_store()
        redis = settings.redis
        self._admission = Admission(self._data, clock=self._clock, memory_bytes=redis.memory_bytes["data"])
        is_one = redis.data.get_secret_value() == redis.control.get_secret_value()
        servers: list[RedisClient] = [self._control] if is_one else [self._control, self._data]
        self._epochs = Epochs(servers, clock=self._clock, lanes=lambda: self._context.settings.lanes)
        self._is_full = False
        self._context = self._make_context()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start, work, and stop in order: no new steps, running steps end, then the connections."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._ask_to_stop)
        watch = LoopWatch(self._clock, self._metrics)
        within_s = max(READY_S, self._settings.lease.lease_s)
        health = Health(self._clock, watch, leases=self._kind.kinds, renewed_within_s=within_s)
        server = HealthServer(
            health, self._metrics.registry, host=self._settings.health.host, port=self._settings.health.port
        )
        server.start()
        reloader = Reloader(
            self._context,
            load=functools.partial(configfile.load, self._path),
            path=configfile.file_of(self._path),
            make_client=self._client,
            health=health,
        )
        loop.add_signal_handler(signal.SIGHUP, reloader.ask)
        # from the beginning: a start that waits for Redis is live as long as this ticks
        watching = asyncio.create_task(watch.run())
        try:
            removed = remove_abandoned(self._settings.gather.spool_dir, now_s=time.time())
            if removed:
                log.info("app.spool_cleaned", file=removed)
            await self._start_and_work(health, reloader, port=server.port)
        finally:
            await cancel_all([watching])
            await asyncio.to_thread(self._tracing.close)
            for client in self._context.azure.values():
                await client.aclose()
            await self._data.aclose()
            await self._control.aclose()
            server.close()

    def _ask_to_stop(self) -> None:
        """Begin to drain; whatever hangs then is ended hard, because steps survive a kill and a full node does not."""
        self._stop.set()
        hard_end = threading.Timer(self._settings.lease.drain_s + HARD_END_S, os._exit, [HARD_END_STATUS])
        hard_end.daemon = True
        hard_end.start()

    def _client(self, name: str, region: RegionSettings) -> AzureClient:
        return AzureClient(name, region, self._settings.http, clock=self._clock, on_call=self._metrics.call)

    async def _start_and_work(self, health: Health, reloader: Reloader, *, port: int) -> None:
        """Wait for Redis, then run steps, both until a stop is asked for."""
        waker = Waker(arq_pool(self._settings.redis), self._clock, self._agendas)
        pipeline = Pipeline(self._context, waker.wake)
        watchdog = Watchdog(self._batches, waker, self._clock, self._metrics)
        servers: dict[Role, RedisClient] = {"data": self._data, "control": self._control}
        check = functools.partial(check_servers, servers, self._settings.redis)
        try:
            for look in (check, functools.partial(self._begin, pipeline, watchdog)):
                if not await reached(look, health=health, stop=self._stop):
                    return
            await self._work(health, reloader, pipeline, watchdog, port=port)
        finally:
            await waker.close()

    async def _begin(self, pipeline: Pipeline, watchdog: Watchdog) -> None:
        """The first words to Redis; may be said again."""
        with asking("the control server"):
            await self._clock.sync(self._control)
        with asking("the data server"):
            await announce_lanes(self._context)
        with asking("a Redis server"):
            await pipeline.beat()
            await watchdog.start_up()

    async def _work(
        self, health: Health, reloader: Reloader, pipeline: Pipeline, watchdog: Watchdog, *, port: int
    ) -> None:
        """Run steps until a stop is asked for; everything beside them runs as background tasks."""
        lease, metrics = self._settings.lease, self._metrics
        collector = FleetCollector(self._clock)
        metrics.registry.register(collector)
        background = [
            asyncio.create_task(coroutine)
            for coroutine in (
                watchdog.run(lease.watchdog_s),
                health.keep_asking("data", self._data.ping),
                health.keep_asking("control", self._control.ping),
                self._every(BEAT_EVERY_S, pipeline.beat),
                self._every(RELOAD_EVERY_S, reloader.look),
                self._every(MEMORY_EVERY_S, self._guard_memory),
                self._every(SYNC_AGAIN_S, functools.partial(self._clock.sync, self._control)),
                self._every(SNAPSHOT_EVERY_S, functools.partial(self._observe, collector)),
            )
        ]
        heap.settle()
        health.started()
        metrics.takes(self._kind.kinds)
        log.info("app.ready", cluster=self._settings.cluster, port=port, kind=self._kind.value)
        try:
            async with asyncio.TaskGroup() as group:
                for heavy in self._kind.queues:
                    make = functools.partial(self._new_worker, pipeline, health, heavy=heavy)
                    group.create_task(serve(make, stop=self._stop, drain_s=lease.drain_s, metrics=metrics))
                await self._stop.wait()
                health.stopping()
                log.info("app.draining")
        finally:
            await cancel_all(background)
            await reloader.aclose()
        log.info("app.stopped")

    def _batch_store(self) -> BatchStore:
        """The store of batches that fits the settings; without tracing nothing of it is loaded."""
        closed_s = self._settings.retention.closed_s
        if not self._settings.tracing.enabled:
            return BatchStore(self._control, clock=self._clock, closed_s=closed_s)
        from groupage_worker.tracing import Tracing  # noqa: PLC0415 - an extra that few have

        tracing = Tracing(self._settings)
        self._tracing.callback(tracing.close)
        return TracedBatchStore(
            self._control,
            clock=self._clock,
            closed_s=closed_s,
            data=self._data,
            requests=self._requests,
            tell=lambda attempt: tracing.ended(attempt, self._context.settings),
        )

    def _make_context(self) -> Context:
        return Context(
            settings=self._settings,
            batches=self._batches,
            requests=self._requests,
            named=NamedRequests(self._data),
            wheel=DeadlineWheel(self._data),
            admission=self._admission,
            epochs=self._epochs,
            azure={name: self._client(name, region) for name, region in self._settings.regions.items()},
            clock=self._clock,
            metrics=self._metrics,
        )

    async def _new_worker(self, pipeline: Pipeline, health: Health, *, heavy: bool) -> LeasedWorker:
        name = f"{socket.gethostname()}:{os.getpid()}"
        pool = arq_pool(self._settings.redis)
        renewed = functools.partial(health.renewed, kind_of(heavy=heavy))
        agenda, lease = self._agendas[heavy], self._settings.lease
        return make_worker(pool, pipeline, lease, heavy=heavy, name=name, agenda=agenda, on_renewed=renewed)

    async def _guard_memory(self) -> None:
        """Close the door while Redis is nearly full: the way out needs the rest."""
        ratio = await self._admission.memory_ratio()
        is_full = ratio is not None and ratio >= self._settings.redis.memory_stop_ratio
        if is_full and not self._is_full:
            log.error("app.redis_nearly_full", used_ratio=ratio)
        for lane in self._context.settings.lanes:
            if is_full:
                await self._admission.refuse(lane, "redis_memory")
            else:
                # whoever closed it may be dead: each worker opens what it finds room for
                await self._admission.welcome(lane)
        self._is_full = is_full

    async def _observe(self, collector: FleetCollector) -> None:
        settings = self._context.settings
        has_expiry = settings.submit.expires_after_s is not None
        collector.update(
            await take_snapshot(
                self._control,
                self._data,
                batches=self._batches,
                requests=self._requests,
                is_frozen=self._epochs.is_frozen,
                clock=self._clock,
                settings=settings,
                regions={
                    name: RegionSnapshot(
                        location=region.location, files_max=files_max(region, has_expiry=has_expiry)
                    )
                    for name, region in settings.regions.items()
                },
            )
        )

    async def _every(self, seconds: float, act: Callable[[], Awaitable[object]]) -> None:
        """Act now and then; an error costs one turn and is counted."""
        while True:
            try:
                await act()
            except Exception as error:  # noqa: BLE001 - a figure that cannot be taken must not end the worker
                log.warning("app.background_failed", error=type(error).__name__)
                self._metrics.worker_error("app", type(error).__name__)
            await asyncio.sleep(seconds)
