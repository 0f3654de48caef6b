"""Health: probes that answer while the loop does not, and say no more than they must."""

import asyncio
import http.client
import json
import threading

import pytest
from prometheus_client import CollectorRegistry

from groupage_worker.health import LIVE_S, READY_S, TICK_S, Health, HealthServer, LoopWatch
from groupage_worker.metrics import Metrics
from tests.support.clock import ManualClock


@pytest.fixture
def metrics():
    """Metrics of a registry of their own."""
    return Metrics(CollectorRegistry())


@pytest.fixture
def watch(clock, metrics):
    """A loop watch on a clock that stands still."""
    return LoopWatch(clock, metrics)


@pytest.fixture
def health(clock, watch):
    """A worker that knows nothing yet."""
    return Health(clock, watch)


@pytest.fixture
def server(health, metrics):
    """A running server on a free port."""
    server = HealthServer(health, metrics.registry, host="127.0.0.1", port=0)
    server.start()
    yield server
    server.close()


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, bytes, http.client.HTTPMessage]:
    """Ask the server."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def make_ready(health: Health) -> None:
    """Everything is fine."""
    health.started()
    health.answered("data")
    health.answered("control")


def test_a_new_worker_is_live_but_not_ready(server):
    """During its start a worker is left alone, and gets no traffic; the reasons are told."""
    assert get(server, "/live")[0] == 200
    status, body, _ = get(server, "/ready")
    assert status == 503
    assert json.loads(body) == {
        "ok": False,
        "reasons": [
            "the start is not done",
            "the data server has not answered yet",
            "the control server has not answered yet",
        ],
    }


def test_refused_settings_are_noted(server, health):
    """A worker whose newest settings were refused works on with the earlier ones, and says so."""
    make_ready(health)
    health.refused(2)
    status, body, _ = get(server, "/ready")
    assert status == 200
    assert json.loads(body)["notes"] == [
        "the newest settings were refused for 2 problems; the log names them"
    ]
    health.refused(0)
    assert "notes" not in json.loads(get(server, "/ready")[1])


def test_ready(server, health):
    """A started worker whose servers answer is ready."""
    make_ready(health)
    status, body, _ = get(server, "/ready")
    assert (status, json.loads(body)) == (200, {"ok": True, "reasons": []})


def test_a_lost_redis_makes_unready_not_dead(server, health, watch, clock):
    """When Redis stops answering, the worker is unready but must not be restarted."""
    make_ready(health)
    clock.advance(READY_S + 1)
    watch.tick()
    health.answered("data")
    assert get(server, "/live")[0] == 200
    assert health.not_ready() == [f"the control server has not answered for {READY_S + 1:.0f} s"]


def test_a_blocked_loop_is_dead(server, health, clock):
    """A loop that has not ticked for long is not live, and the probe answers all the same."""
    make_ready(health)
    clock.advance(LIVE_S + 1)
    status, body, _ = get(server, "/live")
    assert status == 503
    assert json.loads(body)["reasons"] == ["the event loop has not run for 31 s"]
    assert get(server, "/ready")[0] == 503


def test_a_stopping_worker_is_not_ready(health):
    """After a stop was asked for, the worker is no longer ready."""
    make_ready(health)
    health.stopping()
    assert health.not_ready() == ["the worker is stopping"]


def test_the_loop_is_really_blocked(server):
    """The server answers from its own thread while the event loop is held up."""
    answers: list[int] = []

    async def block() -> None:
        asker = threading.Thread(target=lambda: answers.append(get(server, "/live")[0]))
        asker.start()
        # holds up the loop until the answer is there
        asker.join()

    asyncio.run(block())
    assert answers == [200]


def test_stalls_are_measured(watch, clock, metrics):
    """A tick that comes late is recorded by how much."""
    clock.advance(TICK_S + 0.4)
    watch.tick()
    value = metrics.registry.get_sample_value
    assert value("groupage_loop_stall_seconds_sum") == pytest.approx(0.4, abs=0.002)
    assert watch.age_s() == 0


class TellingClock(ManualClock):
    """Tells when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    def monotonic_s(self) -> float:
        """As always, but told."""
        self.asked.set()
        return super().monotonic_s()


async def test_the_watch_ticks(metrics):
    """The watch's task ticks on a real loop until it is cancelled."""
    clock = TellingClock()
    watch = LoopWatch(clock, metrics)
    clock.asked.clear()
    task = asyncio.create_task(watch.run())
    await asyncio.wait_for(clock.asked.wait(), 10)
    task.cancel()
    assert metrics.registry.get_sample_value("groupage_loop_stall_seconds_count") == 1


async def test_redis_is_asked(health, redis):
    """The asking task notes answers of a real server."""
    asked = asyncio.Event()

    async def ping() -> None:
        await redis.ping()
        asked.set()

    task = asyncio.create_task(health.keep_asking("data", ping))
    await asyncio.wait_for(asked.wait(), 10)
    await asyncio.sleep(0)
    task.cancel()
    assert "the data server has not answered yet" not in health.not_ready()


async def test_a_failing_question_is_no_answer(health):
    """A question that fails leaves the age of the last answer alone."""
    asked = asyncio.Event()

    async def ping() -> None:
        asked.set()
        raise ConnectionError

    task = asyncio.create_task(health.keep_asking("data", ping))
    await asyncio.wait_for(asked.wait(), 10)
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    assert "the data server has not answered yet" in health.not_ready()


def test_metrics_are_served(server, metrics):
    """/metrics shows the worker's registry in Prometheus' format."""
    metrics.fence_lost()
    status, body, headers = get(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b"groupage_fences_lost_total 1.0" in body


def test_nothing_is_told_to_strangers(server):
    """No answer names a version, a host or a library."""
    for path in ("/live", "/ready", "/metrics", "/", "/../etc/passwd"):
        status, body, headers = get(server, path)
        told = body + bytes(str(headers), "ascii")
        assert b"Python" not in told
        assert b"127.0.0.1" not in told
        assert headers["Server"] == "groupage"
    assert status == 404


def test_only_reading(server):
    """HEAD has no body; other methods are refused."""
    status, body, headers = get(server, "/live", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0
    assert get(server, "/live", "POST")[0] == 501


def test_ports_are_freed(health, metrics):
    """A closed server frees its port, started or not."""
    first = HealthServer(health, metrics.registry, host="127.0.0.1", port=0)
    port = first.port
    first.close()
    second = HealthServer(health, metrics.registry, host="127.0.0.1", port=port)
    second.start()
    assert second.port == port
    second.close()


def test_many_at_once(server):
    """Connections that say nothing hold up nobody else."""
    silent = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(5)]
    for connection in silent:
        connection.connect()
    assert get(server, "/live")[0] == 200
    for connection in silent:
        connection.close()


def test_ready_means_that_leases_are_renewed(clock, watch):
    """Each kind of steps that the worker takes has to be taken, and its lease renewed in time, for it to be ready."""
    health = Health(clock, watch, leases=("light", "heavy"), renewed_within_s=READY_S)
    make_ready(health)
    assert health.not_ready() == ["no light steps are taken yet", "no heavy steps are taken yet"]
    health.renewed("light")
    health.renewed("heavy")
    assert health.not_ready() == []
    clock.advance(READY_S + 1)
    watch.tick()
    health.answered("data")
    health.answered("control")
    health.renewed("light")
    assert health.not_ready() == [f"the lease of heavy steps has not been renewed for {READY_S + 1:.0f} s"]
    assert health.not_live() == [], "a lease that is lost needs no restart"
