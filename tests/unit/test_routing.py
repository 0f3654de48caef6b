"""Which deployment pulls how much: examples and laws."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from groupage.contract import Priority
from groupage_worker.routing import (
    CRUMB_RATIO,
    PROBE_RATIO,
    URGENT_RATIO,
    URGENT_SLICES,
    LaneDemand,
    Pull,
    Supply,
    plan_pulls,
    share_by_priority,
)
from groupage_worker.scheduling.slices import LINGER_MAX_S, LINGER_MIN_S, linger_s, slice_tokens

SUPPLY = st.builds(
    lambda i, limit, share, paused, slices, ratio, residence, suspect: Supply(
        name=f"d{i}",
        limit_tokens=limit,
        reserved_tokens=int(limit * share),
        is_paused=paused,
        slices=slices,
        token_ratio=ratio,
        residence_s=residence,
        is_suspect=suspect,
    ),
    st.integers(0, 9),
    st.integers(1_000, 15 * 10**9),
    st.floats(0, 1.2),
    st.booleans(),
    st.integers(0, 64),
    st.floats(0.3, 3),
    st.floats(0, 10_000),
    st.booleans(),
)
SUPPLIES = st.lists(SUPPLY, max_size=6, unique_by=lambda s: s.name)
DEMAND = st.builds(
    lambda n, mean, wait, small, large, urgent, reserve: LaneDemand(
        requests=n,
        tokens=int(n * mean),
        oldest_wait_s=wait,
        smallest_tokens=min(small, int(mean)),
        largest_tokens=max(large, int(mean)),
        urgent_tokens=int(n * mean * urgent),
        urgent_wait_s=wait,
        urgent_smallest_tokens=min(small, int(mean)),
        largest_wait_s=wait,
        keeps_reserve=reserve,
    ),
    st.integers(1, 10**6),
    st.floats(1, 5_000),
    st.floats(0, 100_000),
    st.integers(1, 1_000),
    st.integers(1, 20_000),
    st.sampled_from([0.0, 0.01, 1.0]),
    st.booleans(),
)


def demand(requests: int, tokens: int, wait_s: float = 0.0, largest: int = 100, **more: object) -> LaneDemand:
    return LaneDemand(
        requests=requests,
        tokens=tokens,
        oldest_wait_s=wait_s,
        smallest_tokens=1,
        largest_tokens=largest,
        **more,
    )


def supply(name: str, limit: int, reserved: int = 0, *, paused: bool = False, **more: object) -> Supply:
    return Supply(name=name, limit_tokens=limit, reserved_tokens=reserved, is_paused=paused, **more)


def pulls(d: LaneDemand, *supplies: Supply, linger: float = 10.0, draw: float = 1.0) -> list[Pull]:
    return plan_pulls(d, supplies, slices=16, linger_s=linger, lines_max=99_999, draw=draw)


def plan(d: LaneDemand, *supplies: Supply) -> list[tuple[str, int]]:
    return [(pull.deployment, pull.tokens) for pull in pulls(d, *supplies)]


def test_nothing_waits_nothing_pulls() -> None:
    """An empty lane opens no batch."""
    assert plan(demand(0, 0), supply("a", 1_000)) == []


def test_a_fresh_trickle_lingers() -> None:
    """Less than a slice waits until its oldest request has lingered, then all of it goes to the freest."""
    assert plan(demand(3, 300, wait_s=9.9), supply("a", 160_000), supply("b", 160_000, 10)) == []
    assert plan(demand(3, 300, wait_s=10.0), supply("a", 160_000), supply("b", 160_000, 10)) == [("a", 300)]


def test_a_backlog_fills_every_quota_by_slices() -> None:
    """Each deployment pulls slices of its own quota until all are full."""
    done = plan(demand(10**6, 10**8), supply("a", 160_000), supply("b", 16_000))
    assert sum(t for n, t in done if n == "a") == 160_000
    assert sum(t for n, t in done if n == "b") == 16_000
    assert {t for n, t in done if n == "a"} == {10_000}


def test_learned_slices_and_factors_shape_a_pull() -> None:
    """A deployment's own slice counts, and what is reserved is the estimate times its factor."""
    [first, *_] = pulls(demand(10**6, 10**8), supply("a", 160_000, slices=32, token_ratio=1.25))
    assert first.tokens == 160_000 / 1.25 / 32
    assert first.reserve_tokens == 160_000 / 32


def test_light_load_goes_where_completion_is_expected_first() -> None:
    """A part-full batch goes to the best observed deployment, unless that one is stuck."""
    quick, slow = supply("quick", 160_000, residence_s=600.0), supply("slow", 160_000, residence_s=900.0)
    assert plan(demand(3, 300, wait_s=60.0), slow, quick) == [("quick", 300)]
    stuck = dataclasses.replace(quick, silent_s=4_000.0)
    assert plan(demand(3, 300, wait_s=60.0), slow, stuck) == [("slow", 300)]
    unknown = supply("unknown", 160_000)
    assert plan(demand(3, 300, wait_s=60.0), slow, quick, unknown) == [("unknown", 300)]


def test_a_small_draw_explores() -> None:
    """Now and then a part-full batch goes to another deployment than the best."""
    quick, slow = supply("quick", 160_000, residence_s=600.0), supply("slow", 160_000, residence_s=900.0)
    [pull] = pulls(demand(3, 300, wait_s=60.0), slow, quick, draw=0.01)
    assert (pull.deployment, pull.reason) == ("slow", "explore")


def test_paused_and_full_deployments_do_not_pull() -> None:
    """A deployment that is paused, or whose room is a crumb, takes nothing."""
    assert plan(demand(10**6, 10**8), supply("a", 160_000, paused=True), supply("b", 160_000, 158_000)) == []


def test_a_suspect_gets_one_small_batch() -> None:
    """A deployment whose circuit lets a probe through pulls one small batch, others go on as ever."""
    done = pulls(demand(10**6, 10**8), supply("a", 160_000, is_suspect=True), supply("b", 16_000))
    assert [(p.tokens, p.reason) for p in done if p.deployment == "a"] == [(160_000 * PROBE_RATIO, "probe")]


def test_urgent_requests_use_what_is_kept_for_them() -> None:
    """While urgent ones were seen lately, others leave them a share of each quota, and they get it at once."""
    full = supply("a", 160_000, int(160_000 * (1 - URGENT_RATIO)))
    assert plan(demand(10**6, 10**8, keeps_reserve=True), full) == []
    waiting = demand(
        10**6, 10**8, keeps_reserve=True, urgent_tokens=3_000, urgent_wait_s=5.0, urgent_smallest_tokens=9
    )
    done = pulls(waiting, full)
    assert sum(p.tokens for p in done) == 3_000
    assert all(p.is_urgent for p in done)
    assert len(done) == -(-3_000 // (160_000 // URGENT_SLICES))


def test_small_quotas_are_never_stuck() -> None:
    """A slice holds at least ten average requests and always the largest head, whatever the quota."""
    assert slice_tokens(30_000, slices=16, mean_tokens=500, largest_tokens=400) == 5_000
    assert slice_tokens(30_000, slices=16, mean_tokens=500, largest_tokens=20_000) == 20_000
    assert slice_tokens(30_000, slices=16, mean_tokens=9_000, largest_tokens=9_000) == 30_000


def test_a_quota_is_drained_for_a_large_request_in_the_end() -> None:
    """A head that fits no room is passed by smaller ones for a while; then the largest quota waits for it."""
    busy, other = supply("a", 30_000, 20_000, residence_s=600.0), supply("b", 20_000)
    waiting = demand(1_000, 500_000, wait_s=60.0, largest=28_000, largest_wait_s=60.0)
    assert {p.deployment for p in pulls(waiting, busy, other)} == {"a", "b"}
    late = dataclasses.replace(waiting, largest_wait_s=10_000.0)
    assert {p.deployment for p in pulls(late, busy, other)} == {"b"}


def test_an_empty_deployment_takes_what_its_limit_allows() -> None:
    """A factor above one keeps no request out of an empty deployment that is large enough by its estimate."""
    assert plan(demand(1, 28_000, wait_s=60.0, largest=28_000), supply("a", 29_000, token_ratio=1.4)) == [
        ("a", 28_000)
    ]


def test_linger_follows_the_quickest_deployment() -> None:
    """Linger is a twentieth of the best expected completion, within its bounds."""
    assert linger_s([]) == LINGER_MIN_S
    assert linger_s([0.0, 1_000.0, 4_000.0]) == 50.0
    assert linger_s([10**6]) == LINGER_MAX_S


@given(d=DEMAND, supplies=SUPPLIES, linger=st.floats(0.1, 50), draw=st.floats(0, 1))
def test_decisions_never_exceed_a_quota(
    d: LaneDemand, supplies: list[Supply], linger: float, draw: float
) -> None:
    """Pulls never exceed what waits, nor any deployment's room, and never come from a paused one."""
    done = pulls(d, *supplies, linger=linger, draw=draw)
    assert sum(p.tokens for p in done) <= d.tokens
    for s in supplies:
        taken = sum(p.reserve_tokens for p in done if p.deployment == s.name)
        assert taken + s.reserved_tokens <= max(s.limit_tokens, s.reserved_tokens)
        assert taken == 0 or not s.is_paused
        assert not s.is_suspect or sum(p.deployment == s.name for p in done) <= 1
    assert all(p.tokens > 0 and p.reserve_tokens > 0 for p in done)


@given(d=DEMAND, supplies=SUPPLIES, draw=st.floats(0, 1))
def test_nobody_waits_past_the_linger_for_nothing(d: LaneDemand, supplies: list[Supply], draw: float) -> None:
    """With a free, healthy deployment, work that has lingered is pulled."""
    idle = Supply(
        name="idle", limit_tokens=max(d.largest_tokens, 50_000) * 2, reserved_tokens=0, is_paused=False
    )
    assert pulls(d, *supplies, idle, linger=d.oldest_wait_s, draw=draw)


@given(d=DEMAND, supplies=SUPPLIES, draw=st.floats(0, 1))
def test_a_backlog_leaves_no_room_for_a_slice(d: LaneDemand, supplies: list[Supply], draw: float) -> None:
    """After planning, either less than a request is left, or no open deployment has room for half a slice."""
    d = dataclasses.replace(d, urgent_tokens=0, keeps_reserve=False, largest_wait_s=0.0)
    done = pulls(d, *supplies, linger=d.oldest_wait_s, draw=draw)
    left = d.tokens - sum(p.tokens for p in done)
    mean = max(1.0, d.tokens / d.requests)
    for s in supplies:
        if s.is_paused or s.is_suspect:
            continue
        room = (
            s.limit_tokens - s.reserved_tokens - sum(p.reserve_tokens for p in done if p.deployment == s.name)
        )
        whole = slice_tokens(
            int(s.limit_tokens / s.token_ratio),
            slices=s.slices or 16,
            mean_tokens=mean,
            largest_tokens=d.largest_tokens,
        )
        fits = int(room / s.token_ratio)
        assert left < d.smallest_tokens or fits < max(d.smallest_tokens, CRUMB_RATIO * whole) or fits == 0


@given(
    tokens=st.integers(10, 10**7),
    waiting=st.dictionaries(st.sampled_from(list(Priority)), st.integers(0, 10**7)),
)
def test_lower_priorities_keep_a_share(tokens: int, waiting: dict[Priority, int]) -> None:
    """Higher priorities come first, but a tenth is kept for those behind; shares never exceed the budget."""
    shares = share_by_priority(tokens, waiting)
    order = [priority for priority, _ in shares]
    assert order == [p for p in Priority if waiting.get(p, 0) > 0]
    left = tokens
    for index, (priority, budget) in enumerate(shares):
        assert 0 <= budget <= left
        if index < len(shares) - 1:
            assert left - budget >= left // 10
        left -= min(budget, waiting[priority])
    assert left >= 0
