"""The benchmark of the scheduler on the real thing: it does real work, and its judge sees what it must."""

import dataclasses

import pytest
from benchmarks.simulate_real import report
from benchmarks.simulate_real.__main__ import run
from benchmarks.simulate_real.service import ALONE, EVEN, SHARED, config_of

from groupage_emulator import journal
from groupage_emulator.redis_server import EmbeddedRedis

REQUESTS = 150
# so little work is one batch or a few, and with luck these would be validated sooner than the bound assumes
STEADY = dataclasses.replace(
    ALONE, regions=[dataclasses.replace(spec, validate_sigma=0.0) for spec in ALONE.regions]
)


async def test_every_request_is_billed_and_no_quota_exceeded(redis_server: EmbeddedRedis) -> None:
    """A small run ends, every request is billed, and the journal's ledger is read to its end."""
    course, books = await run(STEADY, requests=REQUESTS, seed=1, url=redis_server.url)
    assert books.billed >= REQUESTS
    assert books.over == 0
    assert books.entries >= 2 * books.creates > 0
    assert 0 < course.most_s <= course.all_s
    assert course.all_s > report.bound_s(STEADY, books, seed=1) > 0
    model = report.modelled(STEADY, books, seed=1)
    assert str(REQUESTS) in report.row(STEADY, 1, course, books, model)
    assert (model.unfinished, model.bound_s) == (
        0,
        pytest.approx(report.bound_s(STEADY, books, seed=1), rel=0.1),
    )


def entry(at_s: float, enqueued: int, *, phantom: int = 0) -> journal.Ledger:
    """One change of a ledger with a limit of 100 tokens."""
    return journal.Ledger(
        at_s=at_s, region="r", deployment="d", enqueued=enqueued, limit=100, phantom=phantom
    )


def test_a_token_over_quota_is_seen() -> None:
    """One token above the limit at one instant is counted; with others on the quota, of all users together."""
    over = [entry(0.0, 100), entry(1.0, 101), entry(2.0, 0)]
    assert report.read(over, since_s=0.0, until_s=2.0, is_shared=False).over == 1
    others = [entry(0.0, 101, phantom=50)]
    assert report.read(others, since_s=0.0, until_s=2.0, is_shared=False).over == 0
    assert report.read(others, since_s=0.0, until_s=2.0, is_shared=True).over == 1


def test_occupancy_is_of_what_others_leave() -> None:
    """Token-seconds are added up from entry to entry, until the backlog ends."""
    entries = [entry(0.0, 50, phantom=20), entry(10.0, 100, phantom=20), entry(30.0, 0)]
    books = report.read(entries, since_s=0.0, until_s=20.0, is_shared=True)
    assert (books.held, books.free) == (30 * 10 + 80 * 10, 80 * 20)
    assert SHARED.others_mean


async def test_the_even_world_is_the_modelled_one(redis_server: EmbeddedRedis) -> None:
    """Where a world does not limit the speed of a batch, neither does the emulator; and a run of it ends."""
    assert {region.batch_tokens_per_s_max for region in config_of(EVEN, seed=1).regions} == {0.0}
    _, books = await run(EVEN, requests=REQUESTS, seed=1, url=redis_server.url)
    assert books.billed >= REQUESTS
    assert report.modelled(EVEN, books, seed=1).unfinished == 0
