"""The ledger's laws under any order of open, wish, give up, land, close and sweep, on two deployments."""

import asyncio
import dataclasses
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from tests.support.clock import ManualClock

from groupage.connect import connect
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.models import RELEASE, Batch, Move, new_batch_id
from groupage_worker.states import BatchState
from groupage_worker.store import BatchStore
from groupage_worker.store.moves import rest_of

LIMITS = {"east": 300, "west": 200}


class Moves(RuleBasedStateMachine):
    """Batches of two deployments that go back and forth."""

    server: EmbeddedRedis
    batches = Bundle("batches")

    @initialize()
    def empty(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.redis = connect(self.server.url)
        self.clock = ManualClock()
        self.run(self.redis.flushall())
        self.store = BatchStore(self.redis, clock=self.clock, closed_s=60)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        if hasattr(self, "redis"):
            self.run(self.redis.aclose())
            self.loop.close()

    @rule(target=batches, deployment=st.sampled_from(sorted(LIMITS)), tokens=st.integers(1, 150))
    def open(self, deployment: str, tokens: int) -> str:
        """A batch opens if its reservation fits, and is at the service at once."""
        self.clock.advance(1)
        name = new_batch_id(self.clock.now_ms())
        batch = Batch(id=name, lane="chat", deployment=deployment, state=BatchState.CLAIMING, fence=0)
        if self.run(self.store.open(batch, tokens=tokens, limit=LIMITS[deployment])):
            for state in (BatchState.SEALED, BatchState.RESOLVING, BatchState.SUBMITTED):
                self.run(self.store.commit(self.run(self.store.begin(name)), Move(state=state)))
        return name

    @rule(name=batches, goal=st.sampled_from(sorted(LIMITS)), tokens=st.integers(1, 150))
    def wish(self, name: str, goal: str, tokens: int) -> None:
        """A wish holds room at the target, or changes nothing; a second one changes nothing."""
        batch = self.run(self.store.read(name))
        if batch is None:
            return
        before = self.held()
        done = self.run(
            self.store.moves.wish(batch, goal, tokens=tokens, limit=LIMITS[goal], reason="waiting")
        )
        is_free = batch.state is BatchState.SUBMITTED and not batch.target
        assert done is (is_free and before[goal] + tokens <= LIMITS[goal])
        assert self.held()[goal] - before[goal] == (tokens if done else 0)

    @rule(name=batches, is_given_up=st.booleans(), tokens=st.integers(1, 200))
    def end(self, name: str, is_given_up: bool, tokens: int) -> None:
        """The batch ends: its own reservation goes, and the rest keeps what it needs or gives the room back."""
        batch = self.run(self.store.begin(name))
        if batch is None or batch.state is not BatchState.SUBMITTED:
            return
        self.run(self.store.commit(batch, Move(state=BatchState.DELIVERING, reservation=RELEASE)))
        if batch.target:
            if is_given_up:
                self.run(self.store.moves.give_up(batch))
            else:
                rest = dataclasses.replace(rest_of(batch), tokens=tokens, reserve_tokens=tokens, lines=1)
                landed = self.run(self.store.moves.land(batch, rest, limit=LIMITS[batch.target]))
                if landed:
                    assert self.run(self.store.moves.land(batch, rest, limit=0))
                else:
                    self.run(self.store.moves.give_up(batch))
        for state in (BatchState.CLEANING, BatchState.CLOSED):
            fields: dict[str, str | int] = {"target": ""}
            self.run(self.store.commit(self.run(self.store.begin(name)), Move(state=state, fields=fields)))

    @rule(deployment=st.sampled_from(sorted(LIMITS)))
    def sweep(self, deployment: str) -> None:
        """A sweep finds nothing to give back: nothing ever leaks."""
        for attempt in self.run(self.store.reservations(deployment)):
            assert self.run(self.store.moves.release_orphan(deployment, attempt)) == 0

    def held(self) -> dict[str, int]:
        """Deployment -> reserved tokens."""
        return {name: sum(self.run(self.store.reservations(name)).values()) for name in LIMITS}

    @invariant()
    def limits_hold(self) -> None:
        """No deployment ever holds more than its limit."""
        if hasattr(self, "redis"):
            held = self.held()
            assert all(held[name] <= LIMITS[name] for name in LIMITS), held


def test_moves_never_exceed_a_limit_and_leak_nothing(redis_server: EmbeddedRedis) -> None:
    """Whatever is moved in whatever order: both deployments keep their limits, and no reservation outlives its batch."""
    Moves.server = redis_server
    machine = Moves.TestCase
    machine.settings = settings(
        max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine().runTest()
