"""What a producer keeps to submit it again."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage import Durability, Priority, Producer, Request
from groupage.held import Held
from groupage.items import ITEM_BYTES, Item
from tests.producers.conftest import BODY, LANE


def item(one: str, size: int, keep_until_ms: int) -> Item:
    """A request that was accepted; nobody waits for its ticket any more."""
    return Item(
        lane=LANE,
        priority=Priority.NORMAL,
        id=one,
        body=b"x" * size,
        digest="",
        tokens=1,
        deadline_ms=1_000,
        reply_ttl_ms=1_000,
        durability=Durability.MEMORY,
        outcome=None,
        keep_until_ms=keep_until_ms,
    )


IDS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), IDS, st.integers(0, 900), st.integers(0, 20)),
        st.tuples(st.just("release"), IDS),
        st.tuples(st.just("expire"), st.integers(0, 20)),
    )
)


@given(steps=STEPS, bytes_max=st.integers(0, 5_000))
def test_what_is_held_is_bounded(steps: list[Any], bytes_max: int) -> None:
    """Whatever is added and released: the newest that fit are held, and nothing above the bound."""
    held, model = Held(bytes_max), dict[str, Item]()
    for kind, *args in steps:
        if kind == "add":
            one = item(*args)
            held.add([one])
            model.pop(one.id, None)
            model[one.id] = one
            while sum(len(i.body) + ITEM_BYTES for i in model.values()) > bytes_max:
                del model[next(iter(model))]
        elif kind == "release":
            held.release((LANE, args[0]))
            model.pop(args[0], None)
        else:
            held.expire(args[0])
            model = {name: i for name, i in model.items() if i.keep_until_ms > args[0]}
        assert [i.id for page in held.pages() for i in page] == list(model)
        assert held._bytes == sum(i.size_bytes for i in model.values()) <= bytes_max


class Broken:
    """Requests of a caller: some are sound, one is refused, then there is an error."""

    def __init__(self) -> None:
        self._requests = iter([Request(body=BODY), Request(body={}), Request(body=BODY)])

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        return next(self._requests, None) or self._fail()

    def _fail(self) -> Request:
        raise LookupError


async def test_what_a_call_left_behind_is_not_kept(producer: Producer) -> None:
    """A `submit_many` that broke off in the middle holds on to nothing of its caller."""
    requests = Broken()
    left = weakref.ref(requests)
    with pytest.raises(LookupError):
        await producer.submit_many(requests)
    del requests
    await producer.submit(BODY)  # what was on its way before it is there now
    gc.collect()
    assert left() is None
