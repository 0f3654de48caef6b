"""What a fresh-eyes review and the chaos machinery found: each once, so that it stays mended."""

import dataclasses
import os
import resource
import socket
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.support.clock import ManualClock
from tests.support.fleet import (
    LANE,
    PRODUCER,
    Fleet,
    assert_settled_once,
    emulator_config,
    running_fleet,
)

from groupage import keys
from groupage.contract import Status
from groupage.scripts import Settlement
from groupage_emulator import Limits, Rule, Tokens
from groupage_worker.azure.verdicts import Next, Verdict
from groupage_worker.errors import SpoolFull
from groupage_worker.models import Batch, Move
from groupage_worker.settings import LaneSettings
from groupage_worker.stages import spool
from groupage_worker.stages.consequences import follow
from groupage_worker.states import LEGAL, BatchState


async def until(fleet: Fleet, state: BatchState) -> Batch:
    """Run until some batch is in a state."""
    while True:
        await fleet.run_due()
        for batch in await fleet.open_batches():
            if batch.state is state:
                return batch
        await fleet.advance(1)


async def cancel(fleet: Fleet, name: str) -> None:
    """Settle a request as its producer's cancel does, and forget the reply, as `discard` does."""
    one = Settlement(PRODUCER, name, Status.CANCELLED, b"{}")
    await fleet.requests.settle(LANE, None, [one], reply_ttl_s=60)
    await fleet.redis.delete(keys.reply(LANE, PRODUCER, name))


async def test_steps_of_a_newer_configuration_survive_an_older_worker(fleet: Fleet) -> None:
    """A worker that does not know a lane or region leaves its periodic steps to those who do."""
    for step in ("gather:extra", "expire:extra", "sweep:extra"):
        await fleet.batches.schedule(step, heavy=False, at_ms=fleet.clock.now_ms())
    for _ in range(10):
        await fleet.run_due()
        await fleet.advance(5)
    for step in ("gather:extra", "expire:extra", "sweep:extra"):
        assert await fleet.batches.due_at(step, heavy=False) is not None


@pytest.mark.parametrize(
    "rule", [Rule(kind="region_off"), Rule(kind="http_status", operation="upload", status=503)]
)
async def test_a_region_that_stays_away_costs_only_its_own_capacity(fleet: Fleet, rule: Rule) -> None:
    """Requests that met a region that is down go to the others within minutes."""
    rule.region = "westus"
    fleet.emulator.faults.add(rule)
    ids = await fleet.submit(20)
    took_s = await fleet.settle_all(limit_s=7_200)
    assert took_s < 3_600
    assert {i: r.status for i, r in (await fleet.replies()).items()} == dict.fromkeys(ids, Status.SUCCEEDED)


async def test_a_result_file_that_is_unknown_for_a_while_is_waited_for(fleet: Fleet) -> None:
    """A 404 on a fresh output file does not count as gone: nothing is sent or paid again."""
    fleet.emulator.faults.add(Rule(kind="content_gone", times=3))
    await assert_settled_once(fleet, await fleet.submit(20))


async def test_a_result_file_that_is_gone_ends_in_replies(fleet: Fleet) -> None:
    """Output files that never appear cost attempts, and then every request still gets its reply."""
    fleet.emulator.faults.add(Rule(kind="content_gone"))
    ids = await fleet.submit(3)
    await fleet.settle_all()
    assert {i: r.status for i, r in (await fleet.replies()).items()} == dict.fromkeys(ids, Status.FAILED)


async def test_a_file_that_never_fits_is_halved_when_refused_late(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """Refusals in validation count like those at create: the batch is halved until it fits."""
    config = emulator_config(
        tokens=1_000, regions=("eastus",), fail_fast=False, counting=Tokens(bias=3.0, noise=0.0)
    )
    async with running_fleet(redis, clock, config=config, tokens=1_000) as fleet:
        ids = await fleet.submit(40, tokens=20, text="x" * 200)
        await fleet.settle_all()
        assert {i: r.status for i, r in (await fleet.replies()).items()} == dict.fromkeys(
            ids, Status.SUCCEEDED
        )
        assert fleet.emulator.journal.summary().billed_twice() == {}


@pytest.mark.parametrize("state", [BatchState.UPLOADING, BatchState.CREATING, BatchState.SUBMITTED])
@pytest.mark.parametrize("what", list(Next))
async def test_every_verdict_leads_to_a_legal_move(fleet: Fleet, what: Next, state: BatchState) -> None:
    """Whatever the table says in whatever state it is asked, the move that follows is one of the state's."""
    batch = Batch(id="b1", lane=LANE, deployment="gpt-eastus", state=state, fence=1)
    if what is Next.RESOLVE:
        # only a create is unclear
        batch = dataclasses.replace(batch, state=BatchState.CREATING)
    for attempt in (1, 5):
        verdict = Verdict(next=what, code="x", reason="r", again=what)
        move = await follow(fleet.context, dataclasses.replace(batch, attempt=attempt), verdict)
        assert move.state in LEGAL[batch.state]


async def test_a_file_refused_at_upload_is_halved(fleet: Fleet) -> None:
    """A file that the service finds too large is halved instead of being sent again for ever."""
    fleet.emulator.faults.add(Rule(kind="http_status", operation="upload", status=413, times=1))
    await assert_settled_once(fleet, await fleet.submit(8))


async def test_a_download_that_always_breaks_off_delivers_what_came(fleet: Fleet) -> None:
    """Lines before the break are delivered; the rest is asked for again, and then given up with a reply."""
    fleet.emulator.faults.add(Rule(kind="truncate", at_byte=2_000))
    ids = await fleet.submit(20)
    await fleet.settle_all()
    replies = await fleet.replies()
    assert set(replies) == set(ids)
    assert {r.status for r in replies.values()} <= {Status.SUCCEEDED, Status.FAILED}
    assert sum(r.ok for r in replies.values()) >= 3


async def test_strange_ids_in_results_are_counted_and_nothing_else(fleet: Fleet) -> None:
    """Lines with ids that can be none of ours harm nobody, whatever they ask for."""
    lines = "".join(
        f'{{"custom_id":"{name}","response":{{"status_code":{status},"body":{{"x":1}}}},"error":null}}\n'
        for name in ("ünïcode:1", "noColon", ":", "a:b:c", "x" * 200 + ":1")
        for status in (200, 429)
    )
    fleet.emulator.faults.add(Rule(kind="http_status", operation="content", status=200, body=lines, times=1))
    ids = await fleet.submit(3)
    await fleet.settle_all()
    assert {i: r.status for i, r in (await fleet.replies()).items()} == dict.fromkeys(ids, Status.SUCCEEDED)


async def test_a_bad_line_in_a_file_that_is_gone_is_found_by_halving(fleet: Fleet) -> None:
    """Where the input file cannot be read back, the batch is halved instead of waiting for ever."""
    fleet.emulator.faults.add(Rule(kind="content_gone", operation="content", times=1))
    good = await fleet.submit(3)
    (bad,) = await fleet.submit(1, body=b'{"messages":[}')
    await fleet.settle_all()
    replies = await fleet.replies()
    assert {i for i, r in replies.items() if not r.ok} == {bad}
    assert set(replies) == {*good, bad}


async def test_a_batch_that_never_ends_is_cancelled(fleet: Fleet) -> None:
    """A batch stuck at the service is cancelled after its limit; its requests go again, its quota comes back."""
    fleet.emulator.faults.add(Rule(kind="stuck", state="in_progress", times=1))
    ids = await fleet.submit(5, deadline_s=10 * 86_400)
    await fleet.settle_all(limit_s=5 * 86_400, step_s=900)
    assert {i: r.status for i, r in (await fleet.replies()).items()} == dict.fromkeys(ids, Status.SUCCEEDED)
    await fleet.close_all()
    for deployment in fleet.settings.deployments:
        assert await fleet.batches.reservations(deployment) == {}


async def test_a_batch_nobody_waits_for_is_cancelled(fleet: Fleet) -> None:
    """Once every request of a batch is answered otherwise, the batch is cancelled and its quota comes back."""
    fleet.emulator.faults.add(Rule(kind="stuck", state="validating", times=1))
    await fleet.submit(5, deadline_s=600)
    await fleet.settle_all()
    await fleet.close_all(limit_s=4 * 3_600)
    assert fleet.emulator.journal.summary().statuses["cancelled"] == 1


async def test_a_full_redis_lets_finished_work_out(fleet: Fleet) -> None:
    """At maxmemory no request is accepted, and those that are in are followed, delivered and cleaned up."""
    ids = await fleet.submit(20)
    await until(fleet, BatchState.SUBMITTED)
    await fleet.redis.config_set("maxmemory", "1mb")
    try:
        await fleet.settle_all()
        assert {r.status for r in (await fleet.replies()).values()} == {Status.SUCCEEDED}
        assert set(await fleet.replies()) == set(ids)
    finally:
        await fleet.redis.config_set("maxmemory", "0")


async def test_deadlines_outlive_their_lane(fleet: Fleet) -> None:
    """Requests of a lane that was taken out of the settings still end by their deadline."""
    ids = await fleet.submit(4, deadline_s=60)
    fleet.settings.lanes.pop(LANE)
    for _ in range(20):
        await fleet.advance(5)
        await fleet.run_due()
    fleet.settings.lanes[LANE] = LaneSettings(deployments=("gpt-eastus",))
    assert {i: r.status for i, r in (await fleet.replies()).items()} == dict.fromkeys(ids, Status.EXPIRED)


async def test_a_full_disk_gives_a_clear_error_and_leaves_nothing(fleet: Fleet) -> None:
    """A spool that cannot grow raises SpoolFull, and the folder is gone."""
    await fleet.submit(50)
    await fleet.advance(5)
    held = await fleet.begin_claim()
    await fleet.pipeline._gatherer.step(held)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(SpoolFull):
            async with spool.spooled(fleet.context, held):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_spools_of_dead_workers_are_removed(tmp_path: Path) -> None:
    """At start a worker removes what killed ones left on disk, its own number's included, and nothing of the living."""
    host = socket.gethostname()
    dead = tmp_path / f"{spool.PREFIX}{host}-999999-abc"
    # in a container every worker is process 1
    earlier = tmp_path / f"{spool.PREFIX}{host}-{os.getpid()}-abc"
    alive = tmp_path / f"{spool.PREFIX}{host}-{os.getppid()}-abc"
    strange = tmp_path / f"{spool.PREFIX}elsewhere-999999-abc"
    old = tmp_path / f"{spool.PREFIX}elsewhere-1-abc"
    mine = tmp_path / "mine"
    for folder in (dead, earlier, alive, strange, old, mine):
        folder.mkdir()
    now_s = old.stat().st_mtime
    os.utime(old, (now_s - 7 * 3_600, now_s - 7 * 3_600))
    assert spool.remove_abandoned(tmp_path, now_s=now_s) == 3
    assert {p.name for p in tmp_path.iterdir()} == {alive.name, strange.name, "mine"}


async def test_an_unforeseen_error_keeps_what_a_cut_short_step_left(fleet: Fleet) -> None:
    """After a crash inside a step the next run still knows that an earlier one may have left something."""
    await fleet.submit(3)
    batch = await until(fleet, BatchState.SUBMITTED)
    held = await fleet.batches.begin(batch.id)
    again = await fleet.batches.begin(batch.id)
    assert held
    assert again
    move = fleet.pipeline._later(again, RuntimeError("boom"))
    assert isinstance(move, Move)
    after = await fleet.batches.commit(again, move)
    assert after.runs == again.runs == 2


async def test_a_list_with_small_pages_is_read_all_the_same(
    redis: "Redis[bytes]", clock: ManualClock
) -> None:
    """A service that refuses our page size is asked for its own, so that unclear creates are still resolved."""
    config = emulator_config(regions=("eastus",), limits=Limits(list_limit_max=5))
    async with running_fleet(redis, clock, config=config) as fleet:
        fleet.emulator.faults.add(Rule(kind="reset", operation="create", when="after", times=1))
        await assert_settled_once(fleet, await fleet.submit(5))
