"""Control endpoints on their own loopback port: clock, faults, state, regions, journal.

GET /_control/health, /_control/state, /_control/faults, /_control/journal (summary) and /_control/clock;
POST /_control/clock `{"advance_s": 60}` or `{"scale": 100}`; POST /_control/faults with one rule or a list of them;
DELETE /_control/faults or /_control/faults/{number}; POST /_control/regions/{name} with the fields of `RegionChange`.
"""

from typing import Protocol

import msgspec
from aiohttp import web

from groupage_emulator.clock import Clock
from groupage_emulator.faults import Faults, Rule
from groupage_emulator.journal import Journal
from groupage_emulator.region import Region
from groupage_emulator.transport import json_reply


class Controlled(Protocol):
    """What the control endpoints need of an emulator."""

    clock: Clock
    faults: Faults
    journal: Journal
    regions: dict[str, Region]

    def ready(self) -> dict[str, object]:
        """Addresses, keys and deployments."""


class ClockChange(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /_control/clock."""

    advance_s: float | None = None
    scale: float | None = None


class RegionChange(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /_control/regions/{name}; absent members stay as they are.

    Attributes:
        off: Resets every connection.
        keys: Accepted keys from now on: key rotation.
        tokens: Accepted bearer tokens from now on.
        fail_fast: Whether POST /batches checks the quota.
        release_lag_s: Lag of later releases.
        limits: Quota by deployment.
        phantom: Tokens held by others, by deployment, added to those already there.
    """

    off: bool | None = None
    keys: list[str] | None = None
    tokens: list[str] | None = None
    fail_fast: bool | None = None
    release_lag_s: float | None = None
    limits: dict[str, int] = {}
    phantom: dict[str, int] = {}


def change_region(region: Region, change: RegionChange) -> None:
    """Changes a running region.

    Raises:
        KeyError: A deployment is not the region's.
    """
    for name in ("keys", "tokens", "fail_fast", "release_lag_s"):
        value = getattr(change, name)
        if value is not None:
            setattr(region.config, name, value)
    if change.off is not None:
        region.is_off = change.off
    for name, limit in change.limits.items():
        region.ledgers[name].config.enqueued_tokens_max = limit
    for name, tokens in change.phantom.items():
        region.ledgers[name].add_phantom(tokens)


def state(emulator: Controlled) -> dict[str, object]:
    """Files, batches and tokens of all regions, for live views."""
    return {
        "now_s": emulator.clock.now(),
        "scale": emulator.clock.scale,
        "regions": {name: _region_state(region) for name, region in emulator.regions.items()},
    }


def _region_state(region: Region) -> dict[str, object]:
    return {
        "base_url": region.base_url,
        "off": region.is_off,
        "files": len(region.files),
        "statuses": region.statuses(),
        "deployments": {
            name: {"enqueued": ledger.enqueued, "limit": ledger.limit, "phantom": ledger.phantom}
            for name, ledger in region.ledgers.items()
        },
        "batches": [
            {
                "id": batch.id,
                "status": batch.status,
                "deployment": batch.deployment,
                "total": batch.total,
                "completed": batch.completed
                if batch.status.is_terminal
                else region.lifecycle.completed_now(batch),
                "failed": batch.failed,
                "created_at": batch.created_at,
            }
            for batch in region.batches
            if not batch.status.is_terminal
        ],
    }


class Control:
    """The control application of one emulator."""

    def __init__(self, emulator: Controlled) -> None:
        self._emulator = emulator

    def application(self) -> web.Application:
        """All control routes."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/_control/health", self._health),
                web.get("/_control/state", self._state),
                web.get("/_control/journal", self._journal),
                web.get("/_control/clock", self._get_clock),
                web.post("/_control/clock", self._post_clock),
                web.get("/_control/faults", self._get_faults),
                web.post("/_control/faults", self._post_faults),
                web.delete("/_control/faults", self._delete_faults),
                web.delete("/_control/faults/{number}", self._delete_faults),
                web.post("/_control/regions/{name}", self._post_region),
            ]
        )
        return application

    async def _health(self, _: web.Request) -> web.Response:
        return json_reply(self._emulator.ready())

    async def _state(self, _: web.Request) -> web.Response:
        return json_reply(state(self._emulator))

    async def _journal(self, _: web.Request) -> web.Response:
        summary = self._emulator.journal.summary()
        return json_reply(
            {
                "billed": summary.billed.total(),
                "billed_twice": summary.billed_twice(),
                "input_tokens": summary.input_tokens,
                "output_tokens": summary.output_tokens,
                "online": summary.online,
                "open_files": summary.open_files,
                "open_batches": summary.open_batches,
                "statuses": summary.statuses,
                "faults": summary.faults,
                "peaks": {
                    f"{region}/{deployment}": {"enqueued": peak.enqueued, "limit": peak.limit}
                    for (region, deployment), peak in summary.peaks.items()
                },
            }
        )

    async def _get_clock(self, _: web.Request) -> web.Response:
        clock = self._emulator.clock
        return json_reply({"now_s": clock.now(), "scale": clock.scale})

    async def _post_clock(self, request: web.Request) -> web.Response:
        try:
            change = msgspec.json.decode(await request.read(), type=ClockChange)
        except msgspec.DecodeError as error:
            return _bad(error)
        clock = self._emulator.clock
        if change.scale is not None:
            if clock.is_manual or change.scale <= 0:
                return json_reply({"error": "a manual clock has no scale, and a scale is above 0"}, 400)
            clock.set_scale(change.scale)
        if change.advance_s is not None:
            await clock.advance(change.advance_s)
        return await self._get_clock(request)

    async def _get_faults(self, _: web.Request) -> web.Response:
        return json_reply({"faults": self._emulator.faults.show()})

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            rules = msgspec.json.decode(await request.read(), type=Rule | list[Rule])
        except msgspec.DecodeError as error:
            return _bad(error)
        wanted = rules if isinstance(rules, list) else [rules]
        return json_reply({"numbers": [self._emulator.faults.add(rule) for rule in wanted]}, 201)

    async def _delete_faults(self, request: web.Request) -> web.Response:
        number = request.match_info.get("number")
        self._emulator.faults.remove(int(number) if number and number.isdigit() else None)
        return await self._get_faults(request)

    async def _post_region(self, request: web.Request) -> web.Response:
        region = self._emulator.regions.get(request.match_info["name"])
        if region is None:
            return json_reply({"error": f"no region {request.match_info['name']}"}, 404)
        try:
            change_region(region, msgspec.json.decode(await request.read(), type=RegionChange))
        except msgspec.DecodeError as error:
            return _bad(error)
        except KeyError as error:
            return json_reply({"error": f"no deployment {error}"}, 400)
        return json_reply(_region_state(region))


def _bad(error: Exception) -> web.Response:
    """What is wrong with a control request."""
    return json_reply({"error": str(error)}, 400)
