"""What one decision costs at 1,000 deployments and 10,000 batches in flight: milliseconds of CPU, best of many.

python -m benchmarks.decision_cost
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from groupage_worker.routing import LaneDemand, Supply, plan_pulls
from groupage_worker.scheduling.deadlines import Chance, outlook
from groupage_worker.scheduling.learning import Ended, Learned, learn
from groupage_worker.scheduling.moves import Berth, Flight, plan_moves, plan_rescues

DEPLOYMENTS = 1_000
BATCHES = 10_000
LIMIT_MS = 1.0
REPEATS = 30


def supplies(room_share: float, *, free: int = DEPLOYMENTS) -> list[Supply]:
    """Deployments of 20 M tokens, the first `free` of them with room."""
    limit = 20_000_000
    return [
        Supply(
            name=f"d{i}",
            limit_tokens=limit,
            reserved_tokens=int(limit * (1 - room_share)) if i < free else limit,
            is_paused=False,
            slices=16,
            residence_s=1_000.0 + i,
        )
        for i in range(DEPLOYMENTS)
    ]


def demand(tokens: int) -> LaneDemand:
    """A backlog of so many tokens."""
    return LaneDemand(
        requests=max(1, tokens // 2_400),
        tokens=tokens,
        oldest_wait_s=1e6,
        smallest_tokens=100,
        largest_tokens=10_000,
    )


def berths(*, idle: int, is_urgent: bool = False) -> list[Berth]:
    """Deployments with ten batches each that wait at the service; some deployments are idle."""
    learned = Learned()
    for _ in range(20):
        learned = learn(
            learned, Ended(tokens=1_250_000, limit_tokens=20_000_000, overhead_s=900.0, run_s=400.0)
        )
    each = BATCHES // DEPLOYMENTS
    flights = [
        Flight(
            batch=f"b{j}",
            tokens=1_000_000,
            age_s=9_000.0 - j,
            deadline_in_s=3_600.0 if is_urgent else float("inf"),
        )
        for j in range(each)
    ]
    return [
        Berth(
            name=f"d{i}",
            limit_tokens=20_000_000,
            room_tokens=10_000_000 if i < idle else 0,
            learned=learned,
            flights=() if i < idle else flights,
            urgent=flights if is_urgent and i >= idle else (),
        )
        for i in range(DEPLOYMENTS)
    ]


def cost_ms(decide: Callable[[], list[object]]) -> tuple[float, int]:
    """Best CPU time of one run, and the decisions that it made."""
    best, made = float("inf"), 0
    for _ in range(REPEATS):
        started = time.process_time()
        made = len(decide())
        best = min(best, time.process_time() - started)
    return best * 1e3, made


def main() -> int:
    """Print a table; 1 if any decision costs more than the limit."""
    half, full, few = supplies(0.5), supplies(0.0), supplies(0.5, free=3)
    large, small = demand(10**12), demand(1_000_000)
    idle, urgent, busy = berths(idle=10), berths(idle=10, is_urgent=True), berths(idle=0)
    chances = [Chance(name=b.name, learned=b.learned) for b in busy]
    args = {"slices": 16, "linger_s": 10.0, "lines_max": 99_999}
    cases: dict[str, Callable[[], list[object]]] = {
        "pull: a backlog, room everywhere": lambda: list(plan_pulls(large, half, **args)),  # type: ignore[arg-type] # numbers
        "pull: a backlog, room at three": lambda: list(plan_pulls(large, few, **args)),  # type: ignore[arg-type] # numbers
        "pull: a backlog, no room": lambda: list(plan_pulls(large, full, **args)),  # type: ignore[arg-type] # numbers
        "pull: one part-full batch": lambda: list(plan_pulls(small, half, **args)),  # type: ignore[arg-type] # numbers
        "move: ten idle deployments": lambda: list(plan_moves(idle, waiting_tokens=0)),
        "move: none idle": lambda: list(plan_moves(busy, waiting_tokens=0)),
        "rescue: all batches urgent": lambda: list(plan_rescues(urgent)),
        "deadline of one request": lambda: [
            outlook(chances[:30], tokens=10_000, within_s=3_600.0, linger_s=10.0)
        ],
    }
    print("| decision | CPU ms of one look | decisions made | ms each |\n|---|---|---|---|")
    worst = 0.0
    for name, decide in cases.items():
        whole, made = cost_ms(decide)
        worst = max(worst, whole / max(1, made))
        print(f"| {name} | {whole:.2f} | {made:,} | {whole / max(1, made):.4f} |")
    print(
        f"\n{DEPLOYMENTS:,} deployments, {BATCHES:,} batches ({Path(sys.executable).name} {sys.version.split()[0]})"
    )
    return int(worst > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
