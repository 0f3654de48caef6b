"""What metrics say of a whole fleet, taken from a real one."""

import dataclasses

import pytest
from redis.exceptions import NoPermissionError
from tests.support.fleet import LANE, PRODUCER, Fleet, running_fleet
from tests.support.requests import submit

from groupage import keys
from groupage.connect import connect
from groupage.contract import Status
from groupage_worker.labels import OTHER
from groupage_worker.quota import SharedLimit
from groupage_worker.scheduling.circuit import Circuit
from groupage_worker.settings import Settings
from groupage_worker.snapshot import RegionSnapshot, Snapshot
from groupage_worker.stages import sight
from groupage_worker.states import BatchState
from groupage_worker.store.overview import PRODUCERS_SHOWN, take_snapshot


async def snapshot(fleet: Fleet, *, settings: Settings | None = None) -> Snapshot:
    return await take_snapshot(
        fleet.redis,
        fleet.redis,
        batches=fleet.batches,
        requests=fleet.requests,
        is_frozen=fleet.epochs.is_frozen,
        clock=fleet.clock,
        settings=settings or fleet.settings,
        regions={
            name: RegionSnapshot(location=region.location, files_max=500)
            for name, region in fleet.settings.regions.items()
        },
    )


async def test_a_batch_on_its_way(redis, clock):
    """A batch at the service shows with its age, its producer and its reservation, and the books balance."""
    async with running_fleet(redis, clock) as fleet:
        await fleet.submit(20)
        waiting = (await snapshot(fleet)).lanes[LANE]
        assert (waiting.waiting_requests, waiting.producers) == (20, {PRODUCER: 20})

        async def is_submitted() -> bool:
            return await fleet.states() == [BatchState.SUBMITTED.value]

        await fleet.run_until(is_submitted)
        await fleet.advance(100)
        seen = await snapshot(fleet)
        (where,) = seen.batches
        assert where[2] is BatchState.SUBMITTED
        assert (seen.batches[where].count, seen.batches[where].oldest_age_s) == (1, 100.0)
        deployment = seen.deployments[where[1]]
        assert deployment.reserved_tokens > 0
        held = fleet.emulator.regions[where[1].removeprefix("gpt-")].ledgers["gpt-batch"]
        assert (deployment.reported_tokens, deployment.reported_limit_tokens) == (held.enqueued, held.limit)
        others = [d for name, d in seen.deployments.items() if name != where[1]]
        assert {d.reported_tokens for d in others} == {None}
        lane = seen.lanes[LANE]
        assert (lane.open_requests, lane.waiting_requests, lane.unbalanced_requests) == (20, 0, 0)
        await fleet.settle_all()
        estimate = (await snapshot(fleet)).deployments[where[1]].estimates[LANE]
        assert estimate.factor_ratio != 1.0, (
            "the service counts otherwise than we estimate, and that is learned"
        )
        assert estimate.margin_ratio > 0
        lane = (await snapshot(fleet)).lanes[LANE]
        assert (lane.settled[Status.SUCCEEDED], lane.open_requests, lane.unbalanced_requests) == (20, 0, 0)


async def test_the_limit_is_the_one_that_stages_use(redis, clock):
    """The limit that is shown is the smallest of what was set, what the service reports and what refusals told."""
    async with running_fleet(redis, clock) as fleet:
        name, *others = fleet.settings.deployments
        whole = (await snapshot(fleet)).deployments[name].limit_tokens
        assert whole == fleet.context.limit_tokens(name)
        await fleet.batches.known.update(name, lambda known: dataclasses.replace(known, quota_tokens=2_000))
        margin = fleet.settings.gather.quota_margin_ratio
        assert (await snapshot(fleet)).deployments[name].limit_tokens == int(2_000 * margin)
        cap = SharedLimit(cap_tokens=700, until_ms=clock.now_ms() + 60_000, strikes=1)
        await fleet.batches.known.update(name, lambda known: dataclasses.replace(known, shared=cap))
        seen = (await snapshot(fleet)).deployments
        assert seen[name].limit_tokens == 700
        views = {view.name: view.limit_tokens for view in await sight.views(fleet.context, LANE)}
        assert views == {one: seen[one].limit_tokens for one in [name, *others]}


async def test_room_is_what_a_lane_can_use(redis, clock):
    """Free quota of a deployment that is paused, suspect, drained or another lane's is no room for new batches."""
    async with running_fleet(redis, clock) as fleet:
        first, second, third = fleet.settings.deployments
        lane = fleet.settings.lanes[LANE].model_copy(update={"deployments": (first, second)})
        other = lane.model_copy(update={"deployments": (third,)})
        settings = fleet.settings.model_copy(update={"lanes": {LANE: lane, "other": other}})

        async def room() -> dict[str, float]:
            return {
                name: one.room_ratio for name, one in (await snapshot(fleet, settings=settings)).lanes.items()
            }

        limit = fleet.context.limit_tokens(first)
        await redis.hset(keys.quota(first), "b:1", limit - limit // 4)
        assert await room() == {LANE: 1.0, "other": 1.0}
        await fleet.context.pause(second, reason="http_503", first_s=60.0)
        assert await room() == {LANE: pytest.approx(0.25, abs=0.001), "other": 1.0}
        circuit = Circuit(strikes=2, opened_at_ms=clock.now_ms(), until_ms=clock.now_ms() + 60_000)
        await fleet.batches.known.update(first, lambda known: dataclasses.replace(known, circuit=circuit))
        assert await room() == {LANE: 0.0, "other": 1.0}


async def test_a_lost_request_unbalances_the_books(redis, clock):
    """A counter that lost a request shows as a lane out of balance."""
    async with running_fleet(redis, clock) as fleet:
        await fleet.submit(3)
        await redis.hincrby(keys.load(LANE), "open_requests", -1)
        assert (await snapshot(fleet)).lanes[LANE].unbalanced_requests == 1


async def test_sweeps_count_files(redis, clock):
    """A sweep counts the input files of its region; before the first one nothing is claimed."""
    async with running_fleet(redis, clock) as fleet:
        assert {r.files for r in (await snapshot(fleet)).regions.values()} <= {None, 0}
        await fleet.submit(20)
        await fleet.settle_all()
        await fleet.run_until(_files_are_seen(fleet))


def _files_are_seen(fleet: Fleet):
    async def are_seen() -> bool:
        counted = {name: r.files for name, r in (await snapshot(fleet)).regions.items()}
        held = {
            name: sum(file.purpose == "batch" for file in region.files.all())
            for name, region in fleet.emulator.regions.items()
        }
        return counted == held and sum(held.values()) == 1

    return are_seen


async def test_a_freeze_is_shown(redis, clock):
    """While the fleet is frozen because Redis went back, the overview says so."""
    async with running_fleet(redis, clock) as fleet:
        assert not (await snapshot(fleet)).is_frozen
        await redis.delete(keys.EPOCH)
        await fleet.pipeline.beat()
        assert (await snapshot(fleet)).is_frozen


async def test_many_producers_are_summed_up(redis, clock):
    """Only the largest producers are shown by name, so that labels stay few; nothing is left out of the sum."""
    async with running_fleet(redis, clock) as fleet:
        for n in range(PRODUCERS_SHOWN + 5):
            await submit(redis, LANE, f"p{n}", "a", now_ms=clock.now_ms())
            await redis.hset(keys.producer_load(LANE, f"p{n}"), "open_requests", n + 1)
        shown = (await snapshot(fleet)).lanes[LANE].producers
        assert len(shown) == PRODUCERS_SHOWN + 1
        assert shown[OTHER] == sum(range(1, 6))
        assert sum(shown.values()) == sum(range(1, PRODUCERS_SHOWN + 6))


async def test_denials_are_counted(redis, redis_server, clock):
    """A user that reaches for what is not its own shows, by what it reached for."""
    async with running_fleet(redis, clock) as fleet:
        before = (await snapshot(fleet)).denials
        await redis.execute_command("ACL", "SETUSER", "guest", "on", ">guest", "+get", "+client", "~g1:lanes")
        guest = connect(redis_server.url.replace("unix://", "unix://guest:guest@"))
        try:
            with pytest.raises(NoPermissionError):
                await guest.get(keys.load(LANE))
            with pytest.raises(NoPermissionError):
                await guest.execute_command("FLUSHALL")
        finally:
            await guest.aclose()
            await redis.execute_command("ACL", "DELUSER", "guest")
        seen = (await snapshot(fleet)).denials
        rise = {kind: seen["data", kind] - before["data", kind] for kind in ("key", "cmd", "auth")}
        assert rise == {"key": 1, "cmd": 1, "auth": 0}


async def test_memory_of_the_servers(redis, clock):
    """Memory of both servers is shown with its limit."""
    async with running_fleet(redis, clock) as fleet:
        before = (await redis.config_get("maxmemory"))["maxmemory"]
        await redis.config_set("maxmemory", "100mb")
        try:
            memory = (await snapshot(fleet)).memory
        finally:
            await redis.config_set("maxmemory", before)
        assert {role: m.limit_bytes for role, m in memory.items()} == dict.fromkeys(
            ("data", "control"), 104_857_600
        )
        assert all(0 < m.used_bytes < m.limit_bytes for m in memory.values())
        assert {m.stop_ratio for m in memory.values()} == {0.7}


@pytest.mark.parametrize(
    ("maxmemory", "limit_bytes"), [("0", 50_000_000), ("40mb", 41_943_040), ("90mb", 50_000_000)]
)
async def test_a_limit_that_is_set_counts(redis, clock, maxmemory, limit_bytes):
    """A server that tells no limit has the one of the settings; of two limits the lower one holds."""
    async with running_fleet(redis, clock) as fleet:
        memory = fleet.settings.redis.model_copy(update={"data_memory_bytes": 50_000_000})
        limited = fleet.settings.model_copy(update={"redis": memory})
        before = (await redis.config_get("maxmemory"))["maxmemory"]
        await redis.config_set("maxmemory", maxmemory)
        try:
            seen = await snapshot(fleet, settings=limited)
        finally:
            await redis.config_set("maxmemory", before)
        assert seen.memory["data"].limit_bytes == limit_bytes
