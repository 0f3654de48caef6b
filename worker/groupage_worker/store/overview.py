"""What the whole fleet looks like at one moment, for metrics."""

import dataclasses
from collections.abc import Container, Iterable, Mapping
from typing import Final

from groupage import keys
from groupage.clock import Clock
from groupage.contract import Priority, Status
from groupage.scripts import load_script
from groupage_worker.labels import OTHER
from groupage_worker.models import LaneLoad
from groupage_worker.scheduling.circuit import Admission
from groupage_worker.serverinfo import Role
from groupage_worker.settings import LaneSettings, Settings
from groupage_worker.snapshot import (
    BatchesSnapshot,
    DeploymentSnapshot,
    EstimateSnapshot,
    LaneSnapshot,
    RegionSnapshot,
    Snapshot,
)
from groupage_worker.states import BatchState
from groupage_worker.store.admission import memory_of
from groupage_worker.store.batches import BatchStore
from groupage_worker.store.client import RedisClient
from groupage_worker.store.denials import denials_of
from groupage_worker.store.deployments import DeploymentState
from groupage_worker.store.requests import RequestStore

PAGE = 500

_TALLY: Final = load_script("groupage_worker", "tally")

PRODUCERS_LOOKED_AT: Final = 200
PRODUCERS_SHOWN: Final = 20
"""Of each priority of a lane, the producers next in turn are looked at; the largest are shown by name."""


async def take_snapshot(
    control: RedisClient,
    data: RedisClient,
    *,
    batches: BatchStore,
    requests: RequestStore,
    is_frozen: bool,
    clock: Clock,
    settings: Settings,
    regions: Mapping[str, RegionSnapshot],
) -> Snapshot:
    """Read counters, reservations and states.

    Args:
        control: Client of the control server.
        data: Client of the data server.
        batches: On the control server.
        requests: On the data server.
        is_frozen: Whether the fleet is.
        clock: For ages.
        settings: Lanes, quotas and limits that are in force.
        regions: By name, as the settings know them.
    """
    now = clock.now_ms()
    servers: dict[Role, RedisClient] = {"data": data, "control": control}
    files = await batches.files(regions)
    deployments = await _deployments(batches, settings, now)
    lanes = {
        name: _lane(
            await requests.load(name),
            now,
            lane=lane,
            producers=await _producers(data, name),
            room_ratio=_room_ratio(deployments[one] for one in lane.deployments),
        )
        for name, lane in settings.lanes.items()
    }
    stop_ratio, memory_bytes = settings.redis.memory_stop_ratio, settings.redis.memory_bytes
    return Snapshot(
        taken_at_ms=now,
        is_frozen=is_frozen,
        lanes=lanes,
        deployments=deployments,
        regions={name: dataclasses.replace(region, files=files[name]) for name, region in regions.items()},
        memory={
            role: await memory_of(server, memory_bytes[role], stop_ratio=stop_ratio)
            for role, server in servers.items()
        },
        denials=await _denials(servers),
        batches=await _states(control, batches, now),
    )


async def _deployments(batches: BatchStore, settings: Settings, now_ms: int) -> dict[str, DeploymentSnapshot]:
    margin_ratio = settings.gather.quota_margin_ratio
    states = await batches.deployments(settings.deployments)
    return {
        name: _deployment(
            states[name],
            states[name].known.limit_tokens(one.enqueued_tokens, margin_ratio, now_ms=now_ms),
            await batches.reported(name),
            lanes=settings.lanes,
            now_ms=now_ms,
        )
        for name, one in settings.deployments.items()
    }


def _room_ratio(deployments: Iterable[DeploymentSnapshot]) -> float:
    """Share of quota that is free where most of it is; what takes no new batch has no room."""
    return max(
        (
            max(0.0, 1 - one.reserved_tokens / one.limit_tokens)
            for one in deployments
            if one.limit_tokens and not one.is_paused and not one.is_open_circuit
        ),
        default=0.0,
    )


def _deployment(
    state: DeploymentState,
    limit_tokens: int,
    reported: tuple[int | None, int | None],
    *,
    lanes: Container[str],
    now_ms: int,
) -> DeploymentSnapshot:
    known = state.known
    has_learned = known.learned.batches > 0
    return DeploymentSnapshot(
        limit_tokens=limit_tokens,
        reserved_tokens=state.reserved_tokens,
        is_paused=state.is_paused(now_ms),
        is_open_circuit=known.admission(now_ms) is not Admission.ALL,
        estimates={
            lane: EstimateSnapshot(
                factor_ratio=factor.factor, margin_ratio=factor.margin_ratio(state.open_attempts)
            )
            for lane, factor in known.factors.items()
            if lane in lanes
        },
        slices=known.learned.slices if has_learned else 0,
        residence_seconds=known.learned.residence_s if has_learned else 0.0,
        reported_tokens=reported[0],
        reported_limit_tokens=reported[1],
    )


def _lane(
    load: LaneLoad, now_ms: int, *, lane: LaneSettings, producers: Mapping[str, int], room_ratio: float
) -> LaneSnapshot:
    counters = load.counters
    submitted, still_open = counters.get("submitted_total", 0), counters.get("open_requests", 0)
    oldest = min((w.oldest_at_ms for w in load.waiting.values() if w.oldest_at_ms), default=0)
    return LaneSnapshot(
        open_requests=still_open,
        open_bytes=counters.get("open_bytes", 0),
        waiting_requests=sum(w.requests for w in load.waiting.values()),
        waiting_tokens=sum(w.tokens for w in load.waiting.values()),
        oldest_waiting_age_s=max(0, now_ms - oldest) / 1000 if oldest else 0.0,
        deadline_s=lane.deadline_s,
        room_ratio=room_ratio,
        submitted_total=submitted,
        settled={status: counters.get(f"settled:{status}", 0) for status in Status},
        unbalanced_requests=submitted - still_open - counters.get("settled_total", 0),
        late_waiting_requests=counters.get("late_waiting", 0),
        late_flying_requests=counters.get("late_flying", 0),
        producers=producers,
    )


async def _producers(data: RedisClient, lane: str) -> dict[str, int]:
    """Open requests of the producers that wait; beyond the largest they are summed up as `other`."""
    names: set[str] = set()
    for priority in Priority:
        found = await data.zrange(keys.ready(lane, priority), 0, PRODUCERS_LOOKED_AT - 1)
        names |= {name.decode() for name in found}
    order = sorted(names)
    async with data.pipeline(transaction=False) as pipe:
        for name in order:
            pipe.hget(keys.producer_load(lane, name), "open_requests")
        counts = await pipe.execute()
    ranked = sorted(((int(n or 0), name) for n, name in zip(counts, order, strict=True)), reverse=True)
    shown = {name: n for n, name in ranked[:PRODUCERS_SHOWN]}
    if rest := ranked[PRODUCERS_SHOWN:]:
        shown[OTHER] = shown.get(OTHER, 0) + sum(n for n, _ in rest)
    return shown


async def _denials(servers: Mapping[Role, RedisClient]) -> dict[tuple[str, str], int]:
    """(role, kind) -> what each server refused to its users."""
    return {
        (role, kind): n for role, server in servers.items() for kind, n in (await denials_of(server)).items()
    }


async def _states(
    control: RedisClient, batches: BatchStore, now_ms: int
) -> dict[tuple[str, str, BatchState], BatchesSnapshot]:
    """(lane, deployment, state) -> open batches."""
    names = [step.removeprefix("batch:") async for step in batches.steps() if step.startswith("batch:")]
    found: dict[tuple[str, str, BatchState], BatchesSnapshot] = {}
    known = {state.value for state in BatchState}
    for start in range(0, len(names), PAGE):
        # counted where they are: with thousands of batches the answers would cost more than all else at rest
        flat = await _TALLY(control, [keys.batch(name) for name in names[start : start + PAGE]], [now_ms])
        for lane, deployment, state, count, at_ms in zip(
            *(flat[place::5] for place in range(5)), strict=True
        ):
            if state.decode() not in known:
                continue
            where = lane.decode(), deployment.decode(), BatchState(state.decode())
            before = found.get(where, BatchesSnapshot(count=0))
            found[where] = BatchesSnapshot(
                count=before.count + count,
                oldest_age_s=max(before.oldest_age_s, max(0, now_ms - at_ms) / 1000),
            )
    return found
