"""Every command of `groupage`, and the chart's trial, as the users that the manual names for them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from groupage.testing import announce_lane, open_requests, settle
from groupage_worker.models import Batch, Move
from groupage_worker.operator.grammar import Grammar
from groupage_worker.states import BatchState
from tests.cli.tool import Answer, Tool, ended, write_settings
from tests.security.guarded import Guarded, guarded
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet, running_fleet

TRIAL = Path(__file__).parents[2] / "helm" / "groupage" / "files" / "trial.py"
WITHIN_S = 40.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path) as running:
        yield running


@pytest.fixture
async def fleet(server: Guarded, clock: ManualClock) -> AsyncIterator[Fleet]:
    async with server.client("worker") as redis, running_fleet(redis, clock) as running:
        yield running


async def one_batch(fleet: Fleet) -> Batch:
    """A batch at the service, with two requests."""
    await fleet.submit(2)

    async def submitted() -> bool:
        return BatchState.SUBMITTED in await fleet.states()

    await fleet.run_until(submitted)
    (batch,) = await fleet.open_batches()
    return batch


async def quarantined(fleet: Fleet) -> Batch:
    """The same in quarantine."""
    batch = await one_batch(fleet)
    begun = await fleet.batches.begin(batch.id)
    assert begun
    fields = {"last_error": "brand_new"}
    await fleet.batches.commit(begun, Move(state=BatchState.QUARANTINED, after_s=3_600, fields=fields))
    return batch


def batch_file(folder: Path) -> Path:
    """Three requests as `groupage submit` reads them."""
    lines = [
        {
            "custom_id": f"row-{n}",
            "url": "/chat/completions",
            "body": {"messages": [{"role": "user", "content": f"crate {n}"}]},
        }
        for n in range(3)
    ]
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


async def answer_all(url: str, producer: str, count: int) -> None:
    """Play the worker for the first requests of a producer that come."""
    async with asyncio.timeout(WITHIN_S):
        while count:
            for one in await open_requests(url, LANE, producer):
                await settle(url, LANE, producer, one.id, body={"choices": []})
                count -= 1


async def test_the_operators_tool_works_as_its_user(server: Guarded, fleet: Fleet, tmp_path: Path) -> None:
    """Every command of `groupage` runs as the operator's user, without one refusal."""
    tool = Tool(write_settings(tmp_path, fleet.settings, server.url("operator")))
    ran = {"acl"}

    async def run(*words: str) -> None:
        answer = await tool(*words)
        assert answer.status == 0, (words, answer.err)
        ran.add(words[0])

    name, other = await fleet.submit(2)
    deployment = next(iter(fleet.settings.deployments))
    for words in (
        ["status"],
        ["quota", deployment],
        ["batches"],
        ["batches", "--closed"],
        ["requests"],
        ["request", name, "--producer", "shop"],
        ["drain", deployment, "--reason", "x", "--yes"],
        ["resume", deployment, "--yes"],
        ["cancel", name, other, "--producer", "shop", "--yes"],
        ["request", name, "--producer", "shop"],
    ):
        await run(*words)
    batch = await one_batch(fleet)
    await run("batch", batch.id)
    await run("cancel", "--batch", batch.id, "--yes")
    await fleet.settle_all()
    await fleet.close_all()
    for wish in ("retry", "drop"):
        batch = await quarantined(fleet)
        await run("dead", "list")
        await run("dead", wish, batch.id, "--yes")
        await fleet.settle_all()
        await fleet.close_all()
    file = str(batch_file(tmp_path))
    await run("submit", file, "--producer", "mail")
    collecting = asyncio.create_task(
        run("collect", file, "--producer", "mail", "--output", str(tmp_path / "out"), "--timeout-s", "40")
    )
    await answer_all(server.url("admin"), "mail", 3)
    await collecting
    assert ran == set(Grammar().commands)
    assert await server.refusals() == []


async def words_of(server: Guarded, user: str, folder: Path) -> list[str]:
    """What `submit` and `collect` are called with by somebody with this user's URL; the lane is announced."""
    await announce_lane(server.url("worker"), LANE)
    (folder / "url").write_text(server.url(user))
    given = [str(batch_file(folder)), "--producer", "mail", "--lane", LANE]
    return [*given, "--redis-file", str(folder / "url")]


@pytest.mark.parametrize("user", ["worker", "producer-mail"])
async def test_batch_files_go_in_and_out_as_other_users(server: Guarded, user: str, tmp_path: Path) -> None:
    """`submit` and `collect` need no more than a producer's or a worker's user has."""
    words = await words_of(server, user, tmp_path)
    tool, out = Tool(tmp_path), tmp_path / "out"
    assert (await tool("submit", *words, "--json", config=False)).data["submitted"] == 3
    collecting = asyncio.create_task(tool("collect", *words, "--output", str(out), config=False))
    await answer_all(server.url("admin"), "mail", 3)
    assert (await collecting).status == 0
    assert len(out.read_text().splitlines()) == 3
    assert await server.refusals() == []


@pytest.mark.parametrize("user", ["metrics", "producer-shop"])
async def test_who_may_not_submit_is_told_who_may(server: Guarded, user: str, tmp_path: Path) -> None:
    """Another producer's user, and one that only reads figures, are told in one sentence which user is needed."""
    words = await words_of(server, user, tmp_path)
    answer = await Tool(tmp_path)("submit", *words, config=False)
    assert answer.status == 1
    assert answer.err.splitlines()[-1] == (
        "groupage: the Redis user may not do this; `groupage acl` makes users that may: `operator`, and for submit and "
        "collect also the producer's own (--redis-file)"
    )
    assert await open_requests(server.url("admin"), LANE, "mail") == []


async def test_who_may_not_is_told(server: Guarded, fleet: Fleet, tmp_path: Path) -> None:
    """The tool as a producer's user says that the user may not, in one sentence and with status 1."""
    answer = await Tool(write_settings(tmp_path, fleet.settings, server.url("producer-shop")))("status")
    assert answer.status == 1
    assert "the Redis user may not do this" in answer.err


async def trial(url: str, folder: Path, timeout_s: float = WITHIN_S) -> Answer:
    """Run what `helm test` runs."""
    (folder / "trial-url").write_text(url)
    told = {
        "REDIS_URL_FILE": str(folder / "trial-url"),
        "LANE": LANE,
        "ENDPOINT": "/chat/completions",
        "TIMEOUT_S": str(timeout_s),
    }
    env = os.environ | {f"TRIAL_{name}": value for name, value in told.items()}
    return await ended([sys.executable, str(TRIAL)], env=env)


async def test_the_charts_trial_works_as_the_worker(server: Guarded, tmp_path: Path) -> None:
    """`helm test` has the worker's URL, and its request comes back without one refusal."""
    await announce_lane(server.url("worker"), LANE)
    running = asyncio.create_task(trial(server.url("worker"), tmp_path))
    await answer_all(server.url("admin"), "helm-test", 1)
    assert (await running).out.split()[-1] == "succeeded"
    assert await server.refusals() == []


async def test_the_charts_trial_says_what_is_wrong(server: Guarded, tmp_path: Path) -> None:
    """A trial that cannot submit, or gets no reply in time, ends with one sentence and status 1."""
    unknown = await trial(server.url("worker"), tmp_path)
    await announce_lane(server.url("worker"), LANE)
    late = await trial(server.url("worker"), tmp_path, 0.2)
    locked_out = await trial(server.url("metrics"), tmp_path)
    for answer, part in ((unknown, "is unknown"), (late, "0.2 s"), (locked_out, "Redis cannot be read")):
        assert answer.status == 1
        assert part in answer.err
        assert len(answer.err.splitlines()) == 1
