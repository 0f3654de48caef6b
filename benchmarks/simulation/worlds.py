"""The worlds: five ways a service may behave, and the troubles of the issue."""

import dataclasses
import math
from collections.abc import Callable
from random import Random

from groupage.contract import Priority

from simulation.spec import HOUR, Outage, RegionSpec, World
from simulation.workload import Queue

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
    regions=_regions(capacity_tokens_s=lambda m: 20 * m, wait_median_s=(1_800.0, 3_600.0, 7_200.0), wait_sigma=0.8),
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
OUT_OPEN = dataclasses.replace(D, name="out-open", title="Fastest region fails openly, 1 h to 13 h", outage=_OUT)
OUT_STALL = dataclasses.replace(
    D,
    name="out-stall",
    title="Fastest region stalls, 1 h to 13 h",
    outage=dataclasses.replace(_OUT, is_open=False),
)
