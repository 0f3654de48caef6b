"""The worlds: five ways a service may behave, and the troubles of the issue."""

import dataclasses
import math
from collections.abc import Callable
from random import Random

from benchmarks.simulation.spec import HOUR, Outage, RegionSpec, World
from benchmarks.simulation.workload import Queue

from groupage.contract import Priority

REQUESTS = 100_000
MEAN_TOKENS = 2_400
SIGMA_TOKENS = 0.8
NOISE_SIGMA = 0.12
"""Requests of the five worlds (performance-details.md 2.2, 2026-11-20; the spread of sizes is our assumption)."""

SPEEDS = (6_000.0, 4_000.0, 2_000.0)
NAMES = ("swedencentral", "eastus", "westus")


def backlog(
    n: int = REQUESTS,
    *,
    mean: float = MEAN_TOKENS,
    sigma: float = SIGMA_TOKENS,
    largest: int = 100_000,
    bias: Callable[[Random], float] | float = 1.0,
) -> Callable[[Random], list[Queue]]:
    """All requests of one producer are there at the start."""

    def make(rng: Random) -> list[Queue]:
        return [queue(rng, "bulk", [0.0] * n, mean=mean, sigma=sigma, largest=largest, bias=bias)]

    return make


def queue(
    rng: Random,
    producer: str,
    arrival: list[float],
    *,
    mean: float = MEAN_TOKENS,
    sigma: float = SIGMA_TOKENS,
    largest: int = 100_000,
    bias: Callable[[Random], float] | float = 1.0,
    priority: Priority = Priority.NORMAL,
    deadline_s: float = math.inf,
) -> Queue:
    """Requests of log-normal size; what the service counts is the estimate x bias x log-normal noise."""
    mu = math.log(mean) - sigma**2 / 2
    gauss, exp = rng.gauss, math.exp
    estimates = [min(largest, max(1, int(exp(gauss(mu, sigma))))) for _ in arrival]
    factor = bias if callable(bias) else None
    flat = 1.0 if callable(bias) else bias
    trues = [
        max(1, int(e * exp(gauss(0.0, NOISE_SIGMA)) * (factor(rng) if factor else flat))) for e in estimates
    ]
    return Queue(
        producer, arrival=arrival, estimates=estimates, trues=trues, priority=priority, deadline_s=deadline_s
    )


def _regions(**common: object) -> list[RegionSpec]:
    return [
        RegionSpec(name=name, **_of(common, index, speed))  # type: ignore[arg-type] # fields by name
        for index, (name, speed) in enumerate(zip(NAMES, SPEEDS, strict=True))
    ]


def _of(common: dict[str, object], index: int, speed: float) -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in common.items():
        if callable(value):
            out[key] = value(speed)
        elif isinstance(value, tuple):
            out[key] = value[index]
        else:
            out[key] = value
    return out


A = World(
    name="A",
    title="A: capacity-bound",
    regions=_regions(capacity_tokens_s=lambda m: m),
    workload=backlog(),
)
B = World(
    name="B",
    title="B: each batch capped",
    regions=_regions(capacity_tokens_s=lambda m: 4 * m, batch_tokens_s=lambda m: m / 4),
    workload=backlog(),
)
C = World(
    name="C",
    title="C: wait-bound",
    # "fast once running": 20 m, our assumption
    regions=_regions(
        capacity_tokens_s=lambda m: 20 * m, wait_median_s=(1_800.0, 3_600.0, 7_200.0), wait_sigma=0.8
    ),
    workload=backlog(),
)
_MIXED = {
    "capacity_tokens_s": lambda m: 2 * m,
    "batch_tokens_s": lambda m: m / 2,
    "wait_median_s": (400.0, 800.0, 1_600.0),
    "wait_sigma": 1.0,
    "slow_gap_s": 6 * HOUR,
    "straggler_ratio": 5e-5,
}
D = World(name="D", title="D: mixed", regions=_regions(**_MIXED), workload=backlog())
E = World(
    name="E",
    title="E: slots",
    # a slot works at a quarter of the region's speed, whether or not the others are taken
    regions=_regions(capacity_tokens_s=lambda m: m, batch_tokens_s=lambda m: m / 4, slots=4, setup_s=180.0),
    workload=backlog(),
)
FIVE = (A, B, C, D, E)

_OUT = Outage(region=0, start_s=HOUR, end_s=13 * HOUR, is_open=True)
OUT_OPEN = dataclasses.replace(
    D, name="out-open", title="Fastest region fails openly, 1 h to 13 h", outage=_OUT
)
OUT_STALL = dataclasses.replace(
    D,
    name="out-stall",
    title="Fastest region stalls, 1 h to 13 h",
    outage=dataclasses.replace(_OUT, is_open=False),
)
OUTAGES = (OUT_OPEN, OUT_STALL)


def _late(world: World) -> World:
    """The same where the quota is checked at the end of validation, so that a refusal costs minutes."""
    regions = [dataclasses.replace(spec, is_fail_fast=False) for spec in world.regions]
    return dataclasses.replace(
        world, name=f"{world.name}-late", title=f"{world.title}, late check", regions=regions
    )


# three times the capacity, so that the quota and not the speed is what is missing (performance-details.md 2.5)
SHARED = World(
    name="shared",
    title="Others hold 0-64 % of each quota",
    regions=_regions(capacity_tokens_s=lambda m: 3 * m),
    workload=backlog(),
    others_mean=0.3,
)
SHARED_HEADERS = dataclasses.replace(
    SHARED, name="shared-headers", title="Others hold 0-64 %, quota headers", has_quota_headers=True
)
SHAREDS = (SHARED, _late(SHARED), SHARED_HEADERS)


BIASED_REQUESTS = 3 * REQUESTS
"""Enough for several hours: what is learned within the first one is to be seen after it."""


def _mixed_bias(rng: Random) -> list[Queue]:
    """Three producers whose estimates are off by different factors."""
    third = BIASED_REQUESTS // 3
    return [
        queue(rng, f"p{index}", [0.0] * third, bias=factor) for index, factor in enumerate((0.7, 1.0, 1.4))
    ]


def _biased(name: str, title: str, work: Callable[[Random], list[Queue]]) -> World:
    return dataclasses.replace(B, name=name, title=f"B, three times the work, {title}", workload=work)


BIASES = (
    _biased("bias-none", "estimates that are right on average", backlog(BIASED_REQUESTS)),
    _biased("bias+35", "true tokens 35 % above the estimate", backlog(BIASED_REQUESTS, bias=1.35)),
    _biased("bias-30", "true tokens 30 % below the estimate", backlog(BIASED_REQUESTS, bias=0.7)),
    _biased("bias-mix", "true tokens 0.7 to 1.4 of the estimate", _mixed_bias),
)


def quota_world(name: str, quota: int, *, mean: float, n: int, sigma: float = SIGMA_TOKENS) -> World:
    """Three regions of one quota (performance-details.md 2.3, other quotas)."""
    waits = (120.0, 300.0, 600.0)
    return World(
        name=name,
        title=f"Quota {quota:,} tokens, requests of {mean:,.0f}",
        regions=[
            RegionSpec(
                name=NAMES[i],
                quota_tokens=quota,
                capacity_tokens_s=quota / 1_500,
                batch_tokens_s=quota / 6_000,
                wait_median_s=waits[i],
                wait_sigma=0.8,
            )
            for i in range(3)
        ],
        # what the service counts may be more than half above the estimate: no request shall exceed a whole quota
        workload=backlog(n, mean=mean, sigma=sigma, largest=min(200_000, int(quota * 0.65))),
        # the same share of the quota as 5,000 requests are in the five worlds
        fixed_requests=max(1, min(5_000, int(0.6 * quota / mean))),
    )


QUOTAS = (
    quota_world("30k", 30_000, mean=500, n=3_000),
    quota_world("90k", 90_000, mean=800, n=5_000),
    quota_world("5M", 5_000_000, mean=1_200, n=50_000),
    quota_world("1B", 1_000_000_000, mean=50_000, n=100_000),
    quota_world("15B", 15_000_000_000, mean=150_000, n=100_000, sigma=0.3),
)
UNEQUAL = dataclasses.replace(
    QUOTAS[2],
    name="unequal",
    title="One lane over 15 B, 5 M and 30 k tokens",
    regions=[
        dataclasses.replace(
            spec, quota_tokens=q, capacity_tokens_s=q / 1_500, batch_tokens_s=max(q / 6_000, 400.0)
        )
        for spec, q in zip(QUOTAS[2].regions, (15_000_000_000, 5_000_000, 30_000), strict=True)
    ],
    workload=backlog(50_000, mean=1_200, largest=100_000),
    fixed_requests=2_500,
)
THIRTY = World(
    name="thirty",
    title="One lane over thirty deployments",
    regions=[
        dataclasses.replace(
            D.regions[i % 3],
            name=f"d{i:02}",
            quota_tokens=2_000_000,
            capacity_tokens_s=speed / 5,
            batch_tokens_s=speed / 20,
        )
        for i, speed in ((i, SPEEDS[i % 3]) for i in range(30))
    ],
    workload=backlog(),
    fixed_requests=500,
)


def _tenants(rng: Random, *, is_alone: bool = False) -> list[Queue]:
    """A day: two bulk loads, a steady producer, urgent bursts every hour (performance-details.md 2.4)."""
    day = 24 * HOUR
    bursts = [hour * HOUR + 600.0 for hour in range(24) for _ in range(250)]
    urgent = queue(rng, "bursts", bursts, priority=Priority.URGENT, deadline_s=HOUR)
    if is_alone:
        return [urgent]
    steady: list[float] = []
    now = rng.expovariate(0.25)
    while now < day:
        steady.append(now)
        now += rng.expovariate(0.25)
    return [
        queue(rng, "dump", [0.0] * 133_000),
        queue(rng, "second", [2 * HOUR] * 33_000, deadline_s=12 * HOUR),
        queue(rng, "steady", steady, deadline_s=6 * HOUR),
        urgent,
    ]


TENANTS = dataclasses.replace(
    D, name="tenants", title="Four producers of unequal appetite, a day", workload=_tenants
)
ALONE = dataclasses.replace(
    D,
    name="urgent-alone",
    title="Urgent bursts alone",
    workload=lambda rng: _tenants(rng, is_alone=True),
)


def _burst_load(rng: Random) -> list[Queue]:
    """Bursts of 5,000 requests every two hours with two hours to go, and a trickle with an hour."""
    bursts = [hour * HOUR for hour in range(0, 24, 2) for _ in range(5_000)]
    trickle = sorted(rng.uniform(0, 24 * HOUR) for _ in range(2_000))
    return [
        queue(rng, "bursts", bursts, deadline_s=2 * HOUR),
        queue(rng, "trickle", trickle, deadline_s=HOUR),
    ]


BURSTS = dataclasses.replace(D, name="bursts", title="Bursts with deadlines", workload=_burst_load)
ALL = (*FIVE, *OUTAGES, *SHAREDS, *BIASES, *QUOTAS, UNEQUAL, THIRTY, TENANTS, ALONE, BURSTS)
BY_NAME = {world.name: world for world in ALL}
