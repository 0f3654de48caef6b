"""Pulls repeated until a lane is empty: nothing is stuck, nothing goes over a quota, whatever the sizes."""

import dataclasses
from collections import deque
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from groupage_worker.routing import LaneDemand, Supply, plan_pulls

LINGER_S = 10.0
QUOTA_MIN = 30_000
"""The smallest quota that the product is made for, tokens."""


@dataclasses.dataclass(slots=True)
class Deployment:
    """One deployment: what it holds, batch by batch, oldest first."""

    limit_tokens: int
    slices: int
    held: deque[int] = dataclasses.field(default_factory=deque)

    def supply(self, name: str) -> Supply:
        return Supply(
            name=name,
            limit_tokens=self.limit_tokens,
            reserved_tokens=sum(self.held),
            is_paused=False,
            slices=self.slices,
            residence_s=600.0,
        )


def demand(waiting: deque[int], waited_s: float) -> LaneDemand:
    head = waiting[0]
    return LaneDemand(
        requests=len(waiting),
        tokens=sum(waiting),
        oldest_wait_s=waited_s,
        smallest_tokens=head,
        largest_tokens=head,
        largest_wait_s=waited_s,
    )


def claim(waiting: deque[int], budget: int) -> int:
    """From the head while it fits, as `lua/claim.lua` does for one producer."""
    taken = 0
    while waiting and taken + waiting[0] <= budget:
        taken += waiting.popleft()
    return taken


def pull(waiting: deque[int], deployments: list[Deployment]) -> int:
    """One look of the gatherer; returns the batches that it opened."""
    opened = 0
    if not waiting:
        return opened
    supplies = [d.supply(str(i)) for i, d in enumerate(deployments)]
    for planned in plan_pulls(
        demand(waiting, LINGER_S), supplies, slices=16, linger_s=LINGER_S, lines_max=99_999
    ):
        taken = claim(waiting, planned.tokens)
        if taken:
            deployment = deployments[int(planned.deployment)]
            deployment.held.append(taken)
            opened += 1
            assert sum(deployment.held) <= deployment.limit_tokens
    return opened


DEPLOYMENTS = st.lists(
    st.builds(Deployment, limit_tokens=st.integers(QUOTA_MIN, 200_000), slices=st.integers(10, 64)),
    min_size=1,
    max_size=4,
)


@given(deployments=DEPLOYMENTS, shares=st.lists(st.floats(0, 1), min_size=1, max_size=80), order=st.randoms())
def test_every_lane_is_drained(deployments: list[Deployment], shares: list[float], order: Random) -> None:
    """Requests up to a whole quota are all done in the end; no look with everything free leaves them waiting."""
    largest = max(d.limit_tokens for d in deployments)
    waiting = deque(max(1, int(share * largest)) for share in shares)
    looks = 0
    while waiting or any(d.held for d in deployments):
        looks += 1
        is_free = not any(d.held for d in deployments)
        opened = pull(waiting, deployments)
        assert opened or not is_free
        busy = [d for d in deployments if d.held]
        order.choice(busy).held.popleft()
        assert looks <= 2 * len(shares) + 2
