"""Which deployment pulls how much: examples and laws."""

from hypothesis import given
from hypothesis import strategies as st

from groupage.contract import Priority
from groupage_worker.routing import LaneDemand, Supply, plan_pulls, share_by_priority, slice_tokens

SUPPLY = st.builds(
    lambda i, limit, share, paused: Supply(
        name=f"d{i}", limit_tokens=limit, reserved_tokens=int(limit * share), is_paused=paused
    ),
    st.integers(0, 9),
    st.integers(1_000, 10**9),
    st.floats(0, 1),
    st.booleans(),
)
DEMAND = st.builds(
    lambda n, mean, wait, small, large: LaneDemand(
        requests=n,
        tokens=int(n * mean),
        oldest_wait_s=wait,
        smallest_tokens=min(small, int(mean)),
        largest_tokens=max(large, int(mean)),
    ),
    st.integers(1, 10**6),
    st.floats(1, 5_000),
    st.floats(0, 100),
    st.integers(1, 1_000),
    st.integers(1, 20_000),
)


def demand(requests: int, tokens: int, wait_s: float = 0.0, largest: int = 100) -> LaneDemand:
    return LaneDemand(
        requests=requests, tokens=tokens, oldest_wait_s=wait_s, smallest_tokens=1, largest_tokens=largest
    )


def supply(name: str, limit: int, reserved: int = 0, *, paused: bool = False) -> Supply:
    return Supply(name=name, limit_tokens=limit, reserved_tokens=reserved, is_paused=paused)


def plan(d: LaneDemand, *supplies: Supply, slices: int = 16, linger_s: float = 10.0) -> list[tuple[str, int]]:
    pulls = plan_pulls(d, supplies, slices=slices, linger_s=linger_s, lines_max=99_999)
    return [(pull.deployment, pull.tokens) for pull in pulls]


def test_nothing_waits_nothing_pulls() -> None:
    """An empty lane opens no batch."""
    assert plan(demand(0, 0), supply("a", 1_000)) == []


def test_a_fresh_trickle_lingers() -> None:
    """Less than a slice waits until its oldest request has lingered, then all of it goes to the freest."""
    assert plan(demand(3, 300, wait_s=9.9), supply("a", 160_000), supply("b", 160_000, 10)) == []
    assert plan(demand(3, 300, wait_s=10.0), supply("a", 160_000), supply("b", 160_000, 10)) == [("a", 300)]


def test_a_backlog_fills_every_quota_by_slices() -> None:
    """Each deployment pulls slices of its own quota until all are full."""
    pulls = plan(demand(10**6, 10**8), supply("a", 160_000), supply("b", 16_000))
    assert sum(t for n, t in pulls if n == "a") == 160_000
    assert sum(t for n, t in pulls if n == "b") == 16_000
    assert {t for n, t in pulls if n == "a"} == {10_000}


def test_paused_and_full_deployments_do_not_pull() -> None:
    """A deployment that is paused, or whose room is a crumb, takes nothing."""
    assert plan(demand(10**6, 10**8), supply("a", 160_000, paused=True), supply("b", 160_000, 158_000)) == []


def test_small_quotas_are_never_stuck() -> None:
    """A slice holds at least ten average requests and always the largest head, whatever the quota."""
    assert slice_tokens(30_000, slices=16, mean_tokens=500, largest_tokens=400) == 5_000
    assert slice_tokens(30_000, slices=16, mean_tokens=500, largest_tokens=20_000) == 20_000
    assert slice_tokens(30_000, slices=16, mean_tokens=9_000, largest_tokens=9_000) == 30_000


@given(
    d=DEMAND, supplies=st.lists(SUPPLY, max_size=6, unique_by=lambda s: s.name), linger_s=st.floats(0.1, 50)
)
def test_pulls_fit(d: LaneDemand, supplies: list[Supply], linger_s: float) -> None:
    """Pulls never exceed what waits, nor any deployment's room, and never come from a paused one."""
    pulls = plan_pulls(d, supplies, slices=16, linger_s=linger_s, lines_max=99_999)
    by_name = {s.name: s for s in supplies}
    assert sum(p.tokens for p in pulls) <= d.tokens
    for name, s in by_name.items():
        taken = sum(p.tokens for p in pulls if p.deployment == name)
        assert taken + s.reserved_tokens <= max(s.limit_tokens, s.reserved_tokens)
        assert taken == 0 or not s.is_paused
    assert all(p.tokens > 0 for p in pulls)


@given(d=DEMAND, supplies=st.lists(SUPPLY, min_size=1, max_size=6, unique_by=lambda s: s.name))
def test_nobody_waits_past_the_linger_for_nothing(d: LaneDemand, supplies: list[Supply]) -> None:
    """With an idle deployment, work that has lingered is pulled."""
    idle = Supply(name="idle", limit_tokens=max(d.largest_tokens, 50_000), reserved_tokens=0, is_paused=False)
    assert plan_pulls(d, [*supplies, idle], slices=16, linger_s=d.oldest_wait_s, lines_max=99_999)


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
