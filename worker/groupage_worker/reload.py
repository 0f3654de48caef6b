"""Settings that change while a worker runs: the file is read again when it changes, or on SIGHUP.

What cannot work is refused as a whole: the settings in force stay, the reasons are logged and shown by `groupage status`,
a metric and the probes say so. What is in flight stays: nothing that open batches or requests need can be taken away.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from redis.exceptions import RedisError

from groupage_worker.azure.client import AzureClient
from groupage_worker.errors import ConfigurationError
from groupage_worker.health import Health
from groupage_worker.settings import RegionSettings, Settings
from groupage_worker.stages.announcer import announce_lanes
from groupage_worker.stages.context import Context

log = structlog.get_logger("reload")

FIXED: Final = ("cluster", "redis", "lease", "health", "http", "log", "encryption", "tracing")
"""Groups that are read once, at start."""

MakeClient = Callable[[str, RegionSettings], AzureClient]
"""Makes the client of a region, given its name and settings."""


class Reloader:
    """Brings new settings into force.

    Args:
        context: Whose settings and clients are replaced.
        load: Reads and checks the settings; raises ConfigurationError.
        path: The settings file; None where there is none, then only `ask` reloads.
        make_client: For regions that are new or have changed.
        health: Told of refusals.
    """

    def __init__(
        self,
        context: Context,
        *,
        load: Callable[[], Settings],
        path: Path | None,
        make_client: MakeClient,
        health: Health,
    ) -> None:
        self._context, self._load, self._path = context, load, path
        self._make_client, self._health = make_client, health
        self._stamp = self._stamp_now()
        self._is_asked = False
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._retired: list[AzureClient] = []

    def ask(self) -> None:
        """Read the settings at the next look, changed or not."""
        self._is_asked = True

    async def look(self) -> bool:
        """Reload if the file has changed or somebody asked; returns whether new settings came into force."""
        stamp = await asyncio.to_thread(self._stamp_now)
        if stamp == self._stamp and not self._is_asked:
            return False
        self._stamp, self._is_asked = stamp, False
        try:
            settings = await asyncio.to_thread(self._load)
            return await self._bring_in(settings)
        except ConfigurationError as error:
            await self._refuse(error.problems)
            return False

    async def aclose(self) -> None:
        """Close the clients that were replaced; what was refused is no news any more."""
        with contextlib.suppress(RedisError):
            # a worker may well end because Redis is gone; the record then ends by its time to live
            await self._context.batches.refusals.clear(self._worker)
        for client in self._retired:
            await client.aclose()

    def _stamp_now(self) -> tuple[int, int, int] | None:
        """What changes when the file does, also when it is a link that is swapped, as Kubernetes does."""
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    async def _refuse(self, problems: list[str]) -> None:
        log.error("reload.refused", problems=problems)
        context = self._context
        context.metrics.scheduler.settings_reloaded("refused")
        self._health.refused(len(problems))
        await context.batches.refusals.note(self._worker, problems, at_ms=context.clock.now_ms())

    async def _bring_in(self, settings: Settings) -> bool:
        """Put settings that can work into force.

        Raises:
            ConfigurationError: If they need a restart, or take away what is in use.
        """
        context = self._context
        before = context.settings
        fixed = [f"{name}: is read at start only" for name in FIXED if _differs(before, settings, name)]
        problems = fixed + await self._in_use(settings)
        if problems:
            raise ConfigurationError(problems)
        changed = {n: r for n, r in settings.regions.items() if before.regions.get(n) != r}
        clients = {name: self._make_client(name, region) for name, region in changed.items()}
        self._retired += [context.azure[name] for name in clients if name in context.azure]
        context.azure.update(clients)
        context.settings = settings
        context.batches.closed_s = settings.retention.closed_s
        context.metrics.expect(settings.deployments, settings.regions)
        await announce_lanes(context)
        is_new = settings != before
        context.metrics.scheduler.settings_reloaded("applied" if is_new else "unchanged")
        self._health.refused(0)
        await context.batches.refusals.clear(self._worker)
        log.info("reload.done", outcome="applied" if is_new else "unchanged")
        return is_new

    async def _in_use(self, settings: Settings) -> list[str]:
        """What would be taken away from open batches and requests, one sentence each."""
        context, found = self._context, []
        before = context.settings
        for name, state in (await context.batches.deployments(before.deployments)).items():
            old, new = before.deployments[name], settings.deployments.get(name)
            is_kept = new is not None and (new.kind, new.region, new.model) == (
                old.kind,
                old.region,
                old.model,
            )
            if state.attempts and not is_kept:
                found.append(
                    f"deployments.{name}: holds {len(state.attempts)} open batches, so kind, region and model stay; "
                    "take it out of its lanes, wait, then change it"
                )
        for name in before.lanes.keys() - settings.lanes.keys():
            still_open = (await context.requests.load(name)).counters.get("open_requests", 0)
            if still_open:
                found.append(
                    f"lanes.{name}: has {still_open} open requests, so it stays until they are answered"
                )
        return found


def _differs(before: Settings, after: Settings, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))
