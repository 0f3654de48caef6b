"""The worker as a process, started by its public command, among things that go wrong around it."""

import asyncio
import signal
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from groupage.connect import connect
from groupage_emulator.demo.children import wait_for, wait_until
from tests.acceptance.site import WAIT_S, Site

pytestmark = pytest.mark.timeout(120)

COUNT = 400


async def test_sigterm_drains_and_loses_nothing(site: Site) -> None:
    """SIGTERM in mid-run ends the process with status 0 within seconds, and the next worker finishes the work."""
    worker = await site.start_worker()
    async with site.producer() as producer:
        ids = await site.submit(producer, COUNT)
        await site.until_batches_run()
        worker.signal(signal.SIGTERM)
        await wait_for(worker, lambda: worker.exit_status() == 0, 12.0, "did not end after SIGTERM")
        await site.start_worker()
        site.assert_all_right(await site.replies(producer, ids), COUNT)


async def test_sigkill_loses_nothing(site: Site) -> None:
    """A worker that is killed in mid-run leaves everything to its neighbour, and nothing is billed twice."""
    worker = await site.start_worker()
    await site.start_worker()
    async with site.producer() as producer:
        ids = await site.submit(producer, COUNT)
        await site.until_batches_run()
        worker.signal(signal.SIGKILL)
        site.assert_all_right(await site.replies(producer, ids), COUNT)


async def test_every_arq_key_may_vanish(site: Site) -> None:
    """Deleting all arq keys and queues in mid-run, again and again, loses nothing."""
    await site.start_worker()
    async with site.producer() as producer, aclosing(connect(site.redis.url)) as redis:
        ids = await site.submit(producer, COUNT)
        await site.until_batches_run()
        async with asyncio.TaskGroup() as group:
            replies = group.create_task(site.replies(producer, ids))
            assert await delete_arq_keys(redis) > 0, "there was nothing to delete: the keys have other names"
            while not replies.done():
                await delete_arq_keys(redis)
                # time for the watchdog to make them anew, or the rest of the run
                await asyncio.wait([replies], timeout=3.0)
        site.assert_all_right(replies.result(), COUNT)


async def delete_arq_keys(redis: "Redis[bytes]") -> int:
    """Delete all that arq has; returns how many keys it was."""
    gone = [key for pattern in ("arq:*", "g1:steps:*") for key in await redis.keys(pattern)]
    return await redis.delete(*gone) if gone else 0


async def test_redis_restart_loses_nothing(site: Site) -> None:
    """Redis is killed and started again on its data in mid-run: the worker lives on and every reply comes."""
    worker = await site.start_worker()
    async with site.producer() as producer:
        ids = await site.submit(producer, COUNT)
        await site.until_batches_run()
        site.redis.kill()
        assert await wait_until(lambda: worker.says("fleet.worker_restarts"), WAIT_S)
        site.redis.start()
        site.assert_all_right(await site.replies(producer, ids), COUNT)
        assert worker.exit_status() is None


async def test_replies_outlive_their_producer(site: Site) -> None:
    """A producer that is killed after its submits is replaced by another process, which gets the replies."""
    await site.start_worker()
    first = site.crew.start("first", ["tests.acceptance.first_producer", site.redis.url, str(COUNT)])
    await wait_for(first, lambda: first.says("submitted"), WAIT_S, "did not submit")
    first.signal(signal.SIGKILL)
    assert await wait_until(lambda: first.exit_status() == -signal.SIGKILL, WAIT_S)
    async with site.producer() as second:
        ids = [f"r{n}" for n in range(COUNT)]
        site.assert_all_right(await site.replies(second, ids), COUNT)
