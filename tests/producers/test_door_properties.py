"""The door, whatever comes: nothing crashes it, nothing is smuggled in, nothing changes its meaning."""

import json
from collections import OrderedDict
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from groupage import InvalidRequest
from groupage.leaves import INTEGER_MAX, is_flat
from tests.producers.test_door import MESSAGE, check

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
)
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=8), v, max_size=4)
)
names = st.text(st.characters(codec="utf-8"), max_size=8).map(lambda name: f"x{name}")
bodies = st.builds(
    lambda content, extra: {"messages": [{"role": "user", "content": content}], **extra},
    st.text(st.characters(codec="utf-8")),
    st.dictionaries(names, values, max_size=4),
)


@given(bodies)
def test_what_comes_in_stays_the_same(body: dict[str, Any]) -> None:
    """An accepted body means the same after canonicalisation, which is stable and one line in every form."""
    found = check(body)
    assert msgspec.json.decode(found.canonical) == body
    assert list(msgspec.json.decode(found.canonical)) == list(body)
    assert check(found.canonical) == found
    assert check(json.dumps(body)) == found
    assert check(json.dumps(body, ensure_ascii=False, indent=1).encode()) == found
    assert found.canonical.startswith(b'{"')
    assert found.tokens >= 1
    assert len(found.canonical.decode().splitlines()) == 1


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_junk_never_crashes(junk: bytes | str) -> None:
    """Whatever text arrives is either accepted or refused as invalid."""
    try:
        check(junk)
    except InvalidRequest:
        return


anything = st.recursive(
    leaves | st.floats() | st.integers() | st.text(st.characters()) | st.binary(max_size=5) | st.dates(),
    lambda v: (
        st.lists(v, max_size=4)
        | st.tuples(v, v)
        | st.dictionaries(st.text(st.characters(), max_size=4) | st.integers() | st.booleans(), v, max_size=4)
    ),
)


@given(st.dictionaries(st.sampled_from(["messages", "tools", "n", "x", "model", "stream"]), anything))
def test_odd_dictionaries_never_crash(body: dict[str, Any]) -> None:
    """Whatever Python values arrive are either accepted, and then unchanged, or refused as invalid."""
    try:
        found = check(body)
    except InvalidRequest:
        return
    assert msgspec.json.decode(found.canonical) == {k: v for k, v in body.items() if k != "model"}


@given(bodies, st.integers(0, 30), st.binary(min_size=1, max_size=3))
def test_mutations_never_smuggle(body: dict[str, Any], position: int, insert: bytes) -> None:
    """Bytes that are accepted parse to the canonical object in the standard library too, duplicates refused."""
    raw = json.dumps(body).encode()
    mutated = raw[:position] + insert + raw[position:]
    try:
        found = check(mutated)
    except InvalidRequest:
        return

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    expected = json.loads(mutated, object_pairs_hook=unique)
    expected.pop("model", None)
    assert json.loads(found.canonical) == expected


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=2)
)
OBJECTS = st.dictionaries(st.text(max_size=4) | st.integers() | st.just("image_url"), SCALARS, max_size=3)


@given(
    st.dictionaries(st.text(max_size=4) | st.integers(), SCALARS | st.lists(OBJECTS | SCALARS, max_size=3))
)
def test_a_flat_body_is_its_own_canonical_value(body: dict[Any, Any]) -> None:
    """What the quick look lets through encodes to JSON that decodes to the very same values, or cannot be encoded."""
    if not is_flat(body):
        return
    try:
        raw = msgspec.json.encode(body)
    except UnicodeEncodeError:
        return
    assert msgspec.json.decode(raw) == body
    assert repr(msgspec.json.decode(raw)) == repr(body)
    assert all(abs(value) <= INTEGER_MAX for value in body.values() if isinstance(value, int))


@given(st.dictionaries(st.text(max_size=4), SCALARS | st.lists(OBJECTS, max_size=2), max_size=4))
def test_the_quick_look_changes_no_verdict(fields: dict[str, Any]) -> None:
    """A body is accepted or refused alike, whether its types allow the short way or, as a subclass, force the long one."""

    def outcome(body: Any) -> Any:
        try:
            return check(body)
        except InvalidRequest as refused:
            return str(refused)

    assert outcome({**fields, "messages": [MESSAGE]}) == outcome(
        OrderedDict({**fields, "messages": [MESSAGE]})
    )
