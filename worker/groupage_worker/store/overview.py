"""What the whole fleet looks like at one moment, for metrics."""

from collections import Counter
from collections.abc import Mapping

from groupage import keys
from groupage.contract import Status
from groupage_worker.clock import Clock
from groupage_worker.models import LaneLoad
from groupage_worker.snapshot import DeploymentSnapshot, LaneSnapshot, Snapshot
from groupage_worker.states import BatchState
from groupage_worker.store.batches import BatchStore
from groupage_worker.store.client import RedisClient
from groupage_worker.store.requests import RequestStore

PAGE = 500


async def take_snapshot(
    control: RedisClient,
    batches: BatchStore,
    requests: RequestStore,
    *,
    clock: Clock,
    lanes: list[str],
    limits: Mapping[str, int],
) -> Snapshot:
    """Read counters, reservations and states.

    Args:
        control: Client of the control server.
        batches: On the same server.
        requests: On the data server.
        clock: For ages.
        lanes: Names of the lanes.
        limits: Deployment -> tokens that may be reserved.
    """
    now = clock.now_ms()
    states = await batches.deployments(limits)
    return Snapshot(
        taken_at_ms=now,
        lanes={lane: _lane(await requests.load(lane), now) for lane in lanes},
        deployments={
            name: DeploymentSnapshot(
                limit_tokens=limits[name],
                reserved_tokens=state.reserved_tokens,
                is_paused=state.paused_until_ms > now,
            )
            for name, state in states.items()
        },
        batches=await _states(control, batches),
    )


def _lane(load: LaneLoad, now_ms: int) -> LaneSnapshot:
    counters = load.counters
    oldest = min((w.oldest_at_ms for w in load.waiting.values() if w.oldest_at_ms), default=0)
    return LaneSnapshot(
        open_requests=counters.get("open_requests", 0),
        open_bytes=counters.get("open_bytes", 0),
        waiting_requests=sum(w.requests for w in load.waiting.values()),
        waiting_tokens=sum(w.tokens for w in load.waiting.values()),
        oldest_waiting_age_s=max(0, now_ms - oldest) / 1000 if oldest else 0.0,
        submitted_total=counters.get("submitted_total", 0),
        settled={status: counters.get(f"settled:{status}", 0) for status in Status},
    )


async def _states(control: RedisClient, batches: BatchStore) -> dict[tuple[str, str, BatchState], int]:
    """(lane, deployment, state) -> open batches."""
    names = [step.removeprefix("batch:") async for step in batches.steps() if step.startswith("batch:")]
    found: Counter[tuple[str, str, BatchState]] = Counter()
    known = {state.value for state in BatchState}
    for start in range(0, len(names), PAGE):
        async with control.pipeline(transaction=False) as pipe:
            for name in names[start : start + PAGE]:
                pipe.hmget(keys.batch(name), "lane", "deployment", "state")
            answers = await pipe.execute()
        for lane, deployment, state in answers:
            if state and state.decode() in known:
                found[lane.decode(), deployment.decode(), BatchState(state.decode())] += 1
    return dict(found)
