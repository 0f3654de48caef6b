"""The ledger's laws under any order of submit, open, claim, seal, requeue, split, settle and restart."""

import asyncio
import dataclasses
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from tests.support.clock import ManualClock
from tests.support.requests import counters, submit

from groupage import codec, keys
from groupage.connect import connect
from groupage.contract import Priority, Status
from groupage.scripts import Settlement
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.states import BatchState
from groupage_worker.store import BatchStore, RequestStore

LANE = "chat"
DEPLOYMENT = "east"
LIMIT = 300
PRODUCERS = ("p", "q", "r")


class Ledger(RuleBasedStateMachine):
    """A model of what was submitted and settled beside the real thing."""

    server: EmbeddedRedis
    batches = Bundle("batches")

    @initialize()
    def empty(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.redis = connect(self.server.url)
        self.clock = ManualClock()
        self.run(self.redis.flushall())
        self.requests = RequestStore(self.redis, clock=self.clock)
        self.records = BatchStore(self.redis, clock=self.clock, closed_s=60)
        self.submitted: dict[str, int] = {}
        self.replies: dict[str, bytes] = {}
        self.serial = 0

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        if hasattr(self, "redis"):
            self.run(self.redis.aclose())
            self.loop.close()

    @rule(
        producer=st.sampled_from(PRODUCERS),
        numbers=st.lists(st.integers(0, 20), min_size=1, max_size=6),
        tokens=st.integers(1, 120),
        priority=st.sampled_from(list(Priority)),
    )
    def submit(self, producer: str, numbers: list[int], tokens: int, priority: Priority) -> None:
        """New ids are accepted, known ones are told apart by where they are."""
        for number in numbers:
            name = f"{producer}:{number}"
            code = self.run(
                submit(
                    self.redis,
                    LANE,
                    producer,
                    str(number),
                    now_ms=self.clock.now_ms(),
                    tokens=tokens,
                    priority=priority,
                )
            )
            expected = "s" if name in self.replies else "k" if name in self.submitted else "a"
            assert code == expected
            self.submitted.setdefault(name, tokens)

    @rule(target=batches, tokens=st.integers(1, 200))
    def open_batch(self, tokens: int) -> str:
        """A batch opens exactly when its reservation fits."""
        self.serial += 1
        batch = Batch(
            id=f"b{self.serial:04d}", lane=LANE, deployment=DEPLOYMENT, state=BatchState.CLAIMING, fence=0
        )
        held = sum(self.run(self.records.reservations(DEPLOYMENT)).values())
        assert self.run(self.records.open(batch, tokens=tokens, limit=LIMIT)) is (held + tokens <= LIMIT)
        return batch.id

    @rule(batch=batches, priority=st.sampled_from(list(Priority)), requests=st.integers(1, 10))
    def claim(self, batch: str, priority: Priority, requests: int) -> None:
        """Claims stay within the reservation of their batch."""
        record = self.run(self.records.read(batch))
        if record is None or record.state is not BatchState.CLAIMING:
            return
        owed = self.run(self.requests.owed(LANE, batch))
        used = self.run(self.requests.owed_tokens(LANE, batch, owed))
        self.run(self.requests.open(LANE, batch))
        claim = self.run(
            self.requests.claim(
                LANE,
                priority,
                batch,
                tokens=record.tokens - used,
                requests=requests,
                file_bytes=10**9,
                turn_tokens=50,
                line_overhead=10,
                weights={"q": 2.0},
            )
        )
        assert claim.tokens <= record.tokens - used
        assert claim.requests <= requests

    @rule(batch=batches)
    def seal(self, batch: str) -> None:
        """A seal counts what the manifest holds and shrinks the reservation to it."""
        record = self.run(self.records.begin(batch))
        if record is None or record.state is not BatchState.CLAIMING:
            return
        lines, tokens, _ = self.run(self.requests.seal(LANE, batch))
        owed = self.run(self.requests.owed(LANE, batch))
        assert lines == len(owed)
        assert tokens == self.run(self.requests.owed_tokens(LANE, batch, owed))
        state = BatchState.SEALED if lines else BatchState.CLOSED
        self.run(self.records.commit(record, Move(state=state, reservation=tokens if lines else RELEASE)))

    @rule(batch=batches, tokens=st.integers(0, 200))
    def shrink(self, batch: str, tokens: int) -> None:
        """What was learned lowers a reservation, and raises none."""
        held = self.run(self.records.reservations(DEPLOYMENT))
        freed = self.run(self.records.moves.shrink(DEPLOYMENT, {f"{batch}:1": tokens}))
        left = self.run(self.records.reservations(DEPLOYMENT))
        assert freed == sum(held.values()) - sum(left.values()) >= 0
        assert left.keys() == held.keys()

    @rule(batch=batches, data=st.data(), attempts=st.integers(0, 1))
    def requeue(self, batch: str, data: st.DataObject, attempts: int) -> None:
        """Requeued requests wait again; asking twice changes nothing."""
        owed = self.run(self.requests.owed(LANE, batch))
        if not owed:
            return
        some = data.draw(st.lists(st.sampled_from(owed), unique=True))
        open_ones = [n for n in some if n.decode() not in self.replies]
        assert self.run(self.requests.requeue(LANE, batch, some, attempts=attempts)) == len(open_ones)
        assert self.run(self.requests.requeue(LANE, batch, some, attempts=attempts)) == 0

    @rule(batch=batches, data=st.data())
    def split(self, batch: str, data: st.DataObject) -> None:
        """Requests move to a child batch together with their share of the reservation."""
        record = self.run(self.records.read(batch))
        owed = self.run(self.requests.owed(LANE, batch))
        if record is None or record.state is not BatchState.SEALED or not owed:
            return
        some = data.draw(st.lists(st.sampled_from(owed), unique=True, min_size=1))
        child = dataclasses.replace(record, id=f"{batch}-1", attempt=1)
        tokens = self.run(self.requests.owed_tokens(LANE, batch, some))
        self.run(self.records.split(record, child, tokens=tokens))
        assert self.run(self.requests.split(LANE, batch, child.id, some)) == len(some)

    @rule(batch=batches, data=st.data(), status=st.sampled_from(list(Status)))
    def deliver(self, batch: str, data: st.DataObject, status: Status) -> None:
        """A batch settles what it owes, once; what others owe it never touches."""
        everyone = sorted(self.submitted)
        if not everyone:
            return
        names = data.draw(st.lists(st.sampled_from(everyone), unique=True, max_size=5))
        owed = {n.decode() for n in self.run(self.requests.owed(LANE, batch))}
        done = self.run(
            self.requests.settle(LANE, batch, self._settlements(names, status), reply_ttl_s=9_999)
        )
        for name, code in zip(names, done.codes, strict=True):
            expected = "d" if name in self.replies else "s" if name in owed else "o"
            assert code == expected
            if code == "s":
                self._note(name)

    @rule(data=st.data(), status=st.sampled_from([Status.EXPIRED, Status.CANCELLED]))
    def settle_anywhere(self, data: st.DataObject, status: Status) -> None:
        """Deadlines and cancels settle a request wherever it is."""
        everyone = sorted(self.submitted)
        if not everyone:
            return
        name = data.draw(st.sampled_from(everyone))
        done = self.run(
            self.requests.settle(LANE, None, self._settlements([name], status), reply_ttl_s=9_999)
        )
        assert done.codes == ("d" if name in self.replies else "s")
        if done.settled:
            self._note(name)

    def _settlements(self, names: list[str], status: Status) -> list[Settlement]:
        return [
            Settlement.of(custom_id=n, status=status, reply=b'{"n":%d}' % len(self.replies)) for n in names
        ]

    def _note(self, name: str) -> None:
        producer, _, request = name.partition(":")
        self.replies[name] = self.run(self.redis.get(keys.reply(LANE, producer, request)))

    @invariant()
    def books_balance(self) -> None:
        """Submitted = open + settled, by counters, by keys, and by the model; every open request is somewhere."""
        if not hasattr(self, "redis"):
            return
        count = self.run(counters(self.redis, LANE))
        n_open = len(self.submitted) - len(self.replies)
        assert count.get("submitted_total", 0) == len(self.submitted)
        assert count.get("settled_total", 0) == len(self.replies)
        assert count.get("open_requests", 0) == n_open
        waiting, claimed = self._places()
        owed: list[bytes] = []
        for number in range(1, self.serial + 1):
            for batch in (f"b{number:04d}", f"b{number:04d}-1"):
                owed += self.run(self.requests.owed(LANE, batch))
        still_owed = [name for name in owed if name.decode() not in self.replies]
        assert len(set(owed)) == len(owed)
        assert sorted(still_owed) == sorted(claimed)
        assert len(waiting) + len(claimed) == n_open
        open_tokens = sum(n for name, n in self.submitted.items() if name not in self.replies)
        assert count.get("open_tokens", 0) == open_tokens
        for priority in Priority:
            mine = [header for header in waiting.values() if header.priority is priority]
            assert count.get(f"waiting_requests:{priority}", 0) == len(mine)
            assert count.get(f"waiting_tokens:{priority}", 0) == sum(header.tokens for header in mine)
        assert sum(self.run(self.records.reservations(DEPLOYMENT)).values()) <= LIMIT

    def _places(self) -> tuple[dict[bytes, codec.Header], list[bytes]]:
        waiting: dict[bytes, codec.Header] = {}
        claimed: list[bytes] = []
        for name in self.submitted:
            producer, _, request = name.partition(":")
            value = self.run(self.redis.get(keys.request(LANE, producer, request)))
            assert (value is None) is (name in self.replies)
            if value is None:
                continue
            header = codec.unpack_header(value)
            if header.is_claimed:
                claimed.append(name.encode())
            else:
                waiting[name.encode()] = header
        return waiting, claimed

    @invariant()
    def replies_never_change(self) -> None:
        """What was once answered stays answered the same way."""
        for name, value in list(getattr(self, "replies", {}).items())[-5:]:
            producer, _, request = name.partition(":")
            assert self.run(self.redis.get(keys.reply(LANE, producer, request))) == value


def test_the_books_always_balance(redis_server: EmbeddedRedis) -> None:
    """Whatever happens in whatever order: nothing is lost, doubled, or counted wrongly."""
    Ledger.server = redis_server
    machine = Ledger.TestCase
    machine.settings = settings(
        max_examples=60,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine().runTest()
