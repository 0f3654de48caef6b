"""The emulator as one object: several regions, a control port, one clock, one set of faults, one journal."""

import asyncio
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from groupage_emulator import journal
from groupage_emulator.api import Api
from groupage_emulator.clock import Clock
from groupage_emulator.config import Config
from groupage_emulator.control import Control
from groupage_emulator.faults import Call, Faults, Rule
from groupage_emulator.journal import Journal
from groupage_emulator.region import Region

HEAVY_AT_ONCE = 4
SHUTDOWN_S = 0.2


class Emulator:
    """A local Azure OpenAI Batch service; an async context manager that listens while it is open.

    Args:
        config: What to emulate; None is three regions on free ports.

    Attributes:
        config: As given.
        clock: `await clock.advance(s)` on a manual clock happens everything due on the way.
        faults: `faults.add(kind=..., ...)` puts a fault in force.
        journal: `journal.summary()` for checkers.
        regions: By name; `base_url`, `key`, `azure_url`, `v1_url`, `openai_url`, `deployments`.
        control_url: Base of the control endpoints, without `/_control`.
        data_dir: Where the bytes are.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.clock = Clock(None if self.config.clock == "manual" else self.config.time_scale)
        self.faults = Faults(self.clock.now, self._note_fault)
        self.regions: dict[str, Region] = {}
        self.control_url = ""
        self.data_dir = Path()
        self.journal: Journal
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._runners: list[web.AppRunner] = []

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens on all ports."""
        if self.config.data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="groupage-emulator-")
            self.data_dir = Path(self._temporary.name)
        else:
            self.data_dir = Path(self.config.data_dir)
        self.journal = Journal(Path(self.config.journal or self.data_dir / "journal.jsonl"))
        for rule in self.config.faults:
            self.faults.add(rule)
        work = asyncio.Semaphore(HEAVY_AT_ONCE)
        for one in self.config.regions:
            region = Region(
                config=one,
                clock=self.clock,
                journal=self.journal,
                faults=self.faults,
                root=self.data_dir / one.name,
                seed=f"{self.config.seed}:{one.name}",
                work=work,
            )
            self.regions[one.name] = region
            region.base_url = await self._listen(Api(region).application(), one.host, one.port)
        self.control_url = await self._listen(
            Control(self).application(), self.config.control_host, self.config.control_port
        )
        self.clock.start()

    async def stop(self) -> None:
        """Stops listening and closes the journal; a temporary data directory is removed."""
        await self.clock.stop()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        for region in self.regions.values():
            region.close()
        if hasattr(self, "journal"):
            self.journal.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def ready(self) -> dict[str, object]:
        """What a client needs to know: addresses, keys and deployments, as in the ready file."""
        return {
            "control_url": self.control_url,
            "journal": str(self.journal.path),
            "regions": {
                name: {
                    "base_url": region.base_url,
                    "azure_url": region.azure_url,
                    "v1_url": region.v1_url,
                    "openai_url": region.openai_url,
                    "resource": region.config.resource,
                    "key": region.key,
                    "deployments": region.config.deployments,
                }
                for name, region in self.regions.items()
            },
        }

    async def _listen(self, application: web.Application, host: str, port: int) -> str:
        runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_S,
            keepalive_timeout=75,
        )
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return f"http://{host}:{runner.addresses[0][1]}"

    def _note_fault(self, number: int, rule: Rule, call: Call) -> None:
        self.journal.write(
            journal.Fault(
                at_s=self.clock.now(),
                region=call.region,
                number=number,
                fault=rule.kind,
                operation=call.operation,
                target=call.id,
            )
        )
