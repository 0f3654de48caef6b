"""One run: a world, a policy, a seed -> figures."""

import dataclasses
import math
import time
from collections.abc import Callable
from random import Random

from benchmarks.simulation import bound
from benchmarks.simulation.fleet import Fleet, Policy
from benchmarks.simulation.spec import World
from benchmarks.simulation.workload import Lane, Queue

LEARNED_S = 3_600.0
"""By then the first batches have ended, so that what they teach is known (issue 4: "after the first hour")."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """What one producer got.

    Attributes:
        missed_ratio: Share of its requests that came after their deadline.
    """

    requests: int
    p50_s: float
    p95_s: float
    p99_s: float
    missed_ratio: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is reported of a run.

    Attributes:
        bound_s: Fluid lower bound of the makespan, for work that is there from the start.
        all_s: When the last reply came; `most_s`: 99 % of them.
        occupancy_ratio: Token-seconds held at the service / (quota x time), while a backlog exists.
        refusal_ratio: Creates refused for quota / batches.
        jain: Jain index of the tokens served to each producer while all the bulk loads wait; 1 for a single one.
        unfinished: Requests without a reply at the horizon.
        rest_ratio: Time after `LEARNED_S` until the last reply / fluid bound of what has no reply by then; NaN where
            all has.
    """

    bound_s: float
    all_s: float
    most_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    occupancy_ratio: float
    refusal_ratio: float
    calls_per_request: float
    batches: int
    moves: int
    failures: int
    jain: float
    cpu_s: float
    unfinished: int
    producers: dict[str, Producer]
    rest_ratio: float = math.nan


def run(world: World, make: Callable[[], Policy], seed: int) -> Figures:
    """Simulate once."""
    queues = world.workload(Random(f"{seed}/{world.name}/work"))
    fleet = Fleet(world, Lane(queues), make(), seed=seed)
    started = time.process_time()
    fleet.run()
    cpu_s = time.process_time() - started
    finished = sorted(t for q in queues for t in (q.finished if fleet.unfinished == 0 else _capped(q, world)))
    latencies = sorted(t - a for q in queues for t, a in zip(_capped(q, world), q.arrival, strict=True))
    n = len(finished)
    counts = fleet.counts
    quota = sum(region.spec.quota_tokens for region in fleet.regions)
    for region in fleet.regions:
        region.count(is_counting=False)
    held = sum(region.held_area for region in fleet.regions)
    return Figures(
        bound_s=bound.makespan_s(world, sum(q.true[-1] for q in queues), seed),
        all_s=finished[-1],
        most_s=finished[int(0.99 * n)],
        p50_s=latencies[n // 2],
        p95_s=latencies[int(0.95 * n)],
        p99_s=latencies[int(0.99 * n)],
        occupancy_ratio=held / (quota * fleet.backlog_ended_at) if fleet.backlog_ended_at else math.nan,
        refusal_ratio=(counts.refusals + counts.late_refusals) / max(1, counts.batches),
        calls_per_request=(counts.calls + counts.list_calls) / n,
        batches=counts.batches,
        moves=counts.moves,
        failures=counts.failures,
        jain=_jain(queues),
        cpu_s=cpu_s,
        unfinished=fleet.unfinished,
        producers={q.producer: _producer(q, world) for q in queues},
        rest_ratio=_rest_ratio(world, queues, finished[-1], seed),
    )


def _rest_ratio(world: World, queues: list[Queue], all_s: float, seed: int) -> float:
    rest = sum(
        q.true[i + 1] - q.true[i] for q in queues for i, t in enumerate(q.finished) if not 0 <= t <= LEARNED_S
    )
    if not rest:
        return math.nan
    return (all_s - LEARNED_S) / (bound.makespan_s(world, rest, seed, since_s=LEARNED_S) - LEARNED_S)


def _capped(queue: Queue, world: World) -> list[float]:
    """Instants of the replies; the horizon for what has none."""
    return [t if t >= 0 else world.horizon_s for t in queue.finished]


def _producer(queue: Queue, world: World) -> Producer:
    latencies = sorted(t - a for t, a in zip(_capped(queue, world), queue.arrival, strict=True))
    n = len(latencies)
    return Producer(
        requests=n,
        p50_s=latencies[n // 2],
        p95_s=latencies[int(0.95 * n)],
        p99_s=latencies[int(0.99 * n)],
        missed_ratio=sum(1 for latency in latencies if latency > queue.deadline_s) / n,
    )


def _jain(queues: list[Queue]) -> float:
    """Fairness between the bulk loads: tokens served while both wait."""
    bulk = [q for q in queues if len(q) > 10_000 and q.arrival[0] == q.arrival[-1]]
    if len(bulk) < 2:
        return 1.0
    since = max(q.arrival[0] for q in bulk)
    until = min(q.claimed_until for q in bulk)
    served = [q.served_between(since, until) for q in bulk]
    total = sum(served)
    return total**2 / (len(served) * sum(s * s for s in served)) if total else 1.0
