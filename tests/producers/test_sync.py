"""The blocking twin: the same answers without await, from threads and from forked children."""

import asyncio
import concurrent.futures
import inspect
import os
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import groupage
from groupage import InvalidRequest, ReplyTimeout, Request, Status, sync, testing
from tests.producers.conftest import BODY, LANE, NAME


@pytest.fixture
def twin(lane_url: str) -> Iterator[sync.Producer]:
    """A blocking producer with a lane by default."""
    with sync.Producer(lane_url, name=NAME, lane=LANE) as one:
        yield one


def run(work: Any) -> Any:
    """Run a coroutine of `groupage.testing` in a blocking test."""
    return asyncio.run(work)


def test_same_methods() -> None:
    """Each public method of the asynchronous producer has a twin with the same parameters."""
    names = {name for name in dir(groupage.Producer) if not name.startswith("_")} - {"open", "aclose"}
    assert names <= set(dir(sync.Producer)) | {"lane", "name"}
    for name in names:
        ours = inspect.signature(getattr(sync.Producer, name)).parameters
        theirs = inspect.signature(getattr(groupage.Producer, name)).parameters
        assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in theirs.items()}, name


def test_the_whole_way(twin: sync.Producer, redis_url: str) -> None:
    """Submit, wait, look, cancel and discard work without await."""
    ticket = twin.submit(BODY, id="r1")
    run(testing.settle(redis_url, LANE, NAME, "r1", body={"x": 1}))
    assert twin.reply(ticket, timeout_s=10).body == {"x": 1}
    tickets = twin.submit_many(Request(body=BODY, id=f"m{n}") for n in range(3))
    for one in tickets:
        run(testing.settle(redis_url, LANE, NAME, one.id))
    assert {reply.id for reply in twin.replies(tickets, timeout_s=10)} == {"m0", "m1", "m2"}
    assert next(twin.replies(tickets)).ok
    assert twin.cancel(twin.submit(BODY, id="c1")).status is Status.CANCELLED
    assert twin.status("c1").reply_status is Status.CANCELLED
    assert twin.discard("c1")
    assert list(twin.lanes()) == [LANE]
    with pytest.raises(ReplyTimeout):
        twin.reply(twin.submit(BODY), timeout_s=0.01)


def test_threads_share_one(twin: sync.Producer) -> None:
    """Many threads may use one producer."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        tickets = list(pool.map(lambda n: twin.submit(BODY, id=f"t{n}"), range(200)))
    assert sorted(ticket.id for ticket in tickets) == sorted(f"t{n}" for n in range(200))


def test_bad_arguments_are_seen_where_they_are_written() -> None:
    """A malformed name or URL is refused when the producer is made, not at its first call in some child."""
    with pytest.raises(InvalidRequest):
        sync.Producer("redis://localhost", name="No")
    with pytest.raises(InvalidRequest):
        sync.Producer("nonsense", name=NAME)


def test_close_and_go_on(twin: sync.Producer) -> None:
    """A closed producer starts again with its next call."""
    first = twin.submit(BODY, id="r1")
    twin.close()
    twin.close()
    assert twin.status(first).id == "r1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork(twin: sync.Producer, redis_url: str) -> None:
    """A child made by fork uses the same object with a connection of its own, and the parent goes on."""
    twin.submit(BODY, id="parent")
    children = []
    for n in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                ticket = twin.submit(BODY, id=f"child{n}")
                code = (
                    0 if twin.status(ticket).id == f"child{n}" and twin.status("parent").id == "parent" else 2
                )
            except BaseException:  # noqa: BLE001 - a child must end here, or it would run the rest of the tests
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    twin.submit(BODY, id="later")
    found = {request.id for request in run(testing.open_requests(redis_url, LANE, NAME))}
    assert found == {"parent", "child0", "child1", "later"}
