"""A model of one lane, against the scripts on a real server: counters and keys agree after every step."""

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from groupage import codec, keys
from groupage.connect import connect, disconnect
from groupage.contract import Priority, Status
from groupage.scripts import Scripts, Settlement, listener_of
from tests.producers.conftest import LANE
from tests.producers.test_scripts import NOW, entry

PRODUCERS = st.sampled_from(["shop", "shop-2"])
IDS = st.sampled_from([f"r{n}" for n in range(6)])
BODIES = st.sampled_from([b'{"a":1}', b'{"a":22}'])
MAX_OPEN = 7
LIMITS = {
    "max_open_requests": MAX_OPEN,
    "max_open_bytes": 60,
    "max_open_tokens": 90,
    "max_producer_requests": 5,
    "max_producer_bytes": 40,
    "max_producer_tokens": 60,
}
TOKENS = {b'{"a":1}': 9, b'{"a":22}': 23}


def sums(open_ones: dict[tuple[str, str], bytes], producer: str | None) -> dict[str, int]:
    """What is open, of one producer or of all, in requests, bytes and tokens."""
    bodies = [body for (name, _), body in open_ones.items() if producer in (None, name)]
    return {
        "open_requests": len(bodies),
        "open_bytes": sum(map(len, bodies)),
        "open_tokens": sum(TOKENS[body] for body in bodies),
    }


class Lane(RuleBasedStateMachine):
    """Submit, settle and cancel in any order."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis: Any = connect(self.url)
        self.run(self.redis.flushall())
        self.run(self.redis.hset(keys.load(LANE), mapping=LIMITS))
        self.open: dict[tuple[str, str], bytes] = {}
        self.settled: dict[tuple[str, str], bytes] = {}
        self.replies: dict[tuple[str, str], bytes] = {}

    def run(self, work: Any) -> Any:
        return self.runner.run(_awaited(work))

    def teardown(self) -> None:
        self.run(disconnect(self.redis))
        self.runner.close()

    @rule(producer=PRODUCERS, wanted=st.lists(st.tuples(IDS, BODIES), min_size=1, max_size=4))
    def submit(self, producer: str, wanted: list[tuple[str, bytes]]) -> None:
        """Codes follow from what is open and settled."""
        expected = ""
        for one, body in wanted:
            key = (producer, one)
            known = self.open.get(key) or self.settled.get(key)
            if known is not None:
                expected += "c" if known != body else "k" if key in self.open else "s"
            else:
                is_room = self.fits(producer, body)
                expected += "a" if is_room else "o"
                if is_room:
                    self.open[key] = body
        entries = [entry(one, body, tokens=TOKENS[body]) for one, body in wanted]
        answer = self.run(Scripts(self.redis).submit(LANE, producer, Priority.NORMAL, entries, now_ms=NOW))
        assert answer.codes == expected

    def fits(self, producer: str, body: bytes) -> bool:
        """Whether one more request breaks no limit, of the lane or of its producer."""
        new = {"requests": 1, "bytes": len(body), "tokens": TOKENS[body]}
        everybody, mine = sums(self.open, None), sums(self.open, producer)
        return all(
            everybody[f"open_{what}"] + size <= LIMITS[f"max_open_{what}"]
            and mine[f"open_{what}"] + size <= LIMITS[f"max_producer_{what}"]
            for what, size in new.items()
        )

    @rule(producer=PRODUCERS, one=IDS, status=st.sampled_from(Status))
    def settle(self, producer: str, one: str, status: Status) -> None:
        """Only the first settle of an open request does anything."""
        key = (producer, one)
        items = [Settlement(producer, one, status, b"{}")]
        (code,) = self.run(Scripts(self.redis).settle(LANE, items, now_ms=NOW, reply_ttl_ms=60_000))
        if key in self.open:
            assert listener_of(code) is not None
            self.settled[key] = self.open.pop(key)
            self.replies[key] = self.run(self.redis.get(keys.reply(LANE, *key)))
            assert codec.unpack_reply_head(self.replies[key]).status is status
        else:
            assert code == ("d" if key in self.settled else "u")

    @rule(producer=PRODUCERS, one=IDS)
    def listen(self, producer: str, one: str) -> None:
        """Listening finds exactly the open requests."""
        assert self.run(Scripts(self.redis).listen(LANE, producer, [one], "z" * 16)) == [
            (producer, one) in self.open
        ]

    @invariant()
    def counters_agree(self) -> None:
        """submitted_total = open + settled, and every counter matches the keys."""
        load = {k.decode(): int(v) for k, v in self.run(self.redis.hgetall(keys.load(LANE))).items()}
        assert {what: load.get(what, 0) for what in sums(self.open, None)} == sums(self.open, None)
        assert load.get("waiting_requests:n", 0) == len(self.open)
        assert load.get("settled_total", 0) == len(self.settled)
        assert load.get("submitted_total", 0) == len(self.open) + len(self.settled)
        for producer in ("shop", "shop-2"):
            mine = {
                k.decode(): int(v)
                for k, v in self.run(self.redis.hgetall(keys.producer_load(LANE, producer))).items()
            }
            assert {what: mine.get(what, 0) for what in sums(self.open, producer)} == sums(
                self.open, producer
            )
            kept = sum(len(value) for (owner, _), value in self.replies.items() if owner == producer)
            assert mine.get("reply_bytes", 0) == kept

    @invariant()
    def keys_agree(self) -> None:
        """A request key exists exactly while it is open, a reply never changes, and all of them expire."""
        found = set(self.run(self.redis.keys("*:p:*:re[qp]:*")))
        requests = {keys.request(LANE, *key).encode() for key in self.open}
        replies = {keys.reply(LANE, *key).encode() for key in self.settled}
        assert found == requests | replies
        for key, value in self.replies.items():
            assert self.run(self.redis.get(keys.reply(LANE, *key))) == value
        for name in found:
            assert self.run(self.redis.pttl(name)) > 0


async def _awaited(work: Any) -> Any:
    return await work


@pytest.mark.timeout(120)
def test_accounting(redis_server: Any) -> None:
    """submitted_total = open + settled after every step, whatever the order."""
    Lane.url = redis_server.url
    run_state_machine_as_test(Lane, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))
