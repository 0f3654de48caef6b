"""A service that trickles: what came is kept, and nothing is asked for, and paid, a second time."""

import asyncio

import pytest
from tests.support.fleet import Fleet, assert_settled_once

from groupage import keys
from groupage_emulator import Rule
from groupage_worker.models import Batch
from groupage_worker.states import BatchState

TURNS = 20
"""Turns of the event loop that a piece takes from the service to the worker, about."""


async def turn(fleet: Fleet) -> None:
    """Run what is due, once; while whole files travel, seconds pass here and at the service."""
    for heavy, key in ((False, keys.DUE_LIGHT), (True, keys.DUE_HEAVY)):
        for name in await fleet.redis.zrange(key, "-inf", fleet.clock.now_ms(), byscore=True):
            running = asyncio.create_task(fleet.pipeline.run(name.decode(), heavy=heavy))
            while not running.done():
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                if heavy:
                    await fleet.advance(1)
            await running


async def delivering(fleet: Fleet) -> list[Batch]:
    """Batches whose files are being read."""
    return [b for b in await fleet.open_batches() if b.state is BatchState.DELIVERING]


@pytest.mark.parametrize("has_ranges", [True, False])
async def test_a_slow_download_is_gone_on_with(fleet: Fleet, *, has_ranges: bool) -> None:
    """At 300 bytes/s each run gets further than the one before, until every request has its reply, billed once."""
    fleet.emulator.faults.add(Rule(kind="slow_body", bytes_per_s=300))
    if not has_ranges:
        fleet.emulator.faults.add(Rule(kind="no_ranges"))
    ids = await fleet.submit(300, tokens=60, deadline_s=10 * 86_400)

    read: list[int] = []
    while not await fleet.replies() or await delivering(fleet):
        await turn(fleet)
        read += [batch.output_read_bytes for batch in await delivering(fleet)]
        await fleet.advance(5)
    assert len(set(read)) >= 2, "more than one run was cut, each further than the one before"
    fleet.emulator.faults.remove()
    await assert_settled_once(fleet, ids)


async def test_what_redis_lost_is_read_again(fleet: Fleet) -> None:
    """Replies that were lost after their part of the file was read are found in a second reading, not paid again."""
    fleet.emulator.faults.add(Rule(kind="truncate", at_byte=3_000, times=1))
    ids = await fleet.submit(30)
    kept: dict[bytes, bytes] = {}

    async def is_cut() -> bool:
        for batch in await fleet.open_batches():
            if batch.state is BatchState.SUBMITTED and not kept:
                await keep(fleet, kept)
        return any(b.output_read_bytes for b in await delivering(fleet))

    await fleet.run_until(is_cut, step_s=1)
    lost = [key for key in kept if await fleet.redis.dump(key) != kept[key]]
    assert lost
    for key in lost:
        await fleet.redis.restore(key, 0, kept[key], replace=True)
    async for key in fleet.redis.scan_iter(match="*:rep:*"):
        await fleet.redis.unlink(key)
    await fleet.settle_all()
    assert set(await fleet.replies()) == set(ids)
    assert set(fleet.emulator.journal.summary().billed.values()) == {1}


async def keep(fleet: Fleet, kept: dict[bytes, bytes]) -> None:
    """Remember what the lane has in Redis, as a snapshot would."""
    async for key in fleet.redis.scan_iter(match="g1:[{]*"):
        kept[key] = await fleet.redis.dump(key)
