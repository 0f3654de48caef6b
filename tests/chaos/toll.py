"""What a storm cost: the figures of one run of real processes."""

import dataclasses
from collections import Counter
from typing import Any


@dataclasses.dataclass(kw_only=True)
class Figures:
    """What a storm did, and how long it took the fleet to get over it; times in seconds.

    Attributes:
        counts: Misfortunes by kind; `redis_cuts` are those of `redis_kills` after which the end of the log was gone.
    """

    kills: int = 0
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    requests: int = 0
    reruns_s: list[float] = dataclasses.field(default_factory=list)
    redis_back_s: list[float] = dataclasses.field(default_factory=list)
    exits_s: list[float] = dataclasses.field(default_factory=list)
    settled_after_s: float = 0.0
    seconds: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The figures with the longest times and percentiles in place of lists."""
        found = dict(vars(self))
        for name in ("reruns_s", "redis_back_s", "exits_s"):
            times = sorted(found[name])
            found[name] = {
                "n": len(times),
                "p50": round(times[len(times) // 2], 2) if times else None,
                "p99": round(times[min(len(times) - 1, int(len(times) * 0.99))], 2) if times else None,
                "max": round(times[-1], 2) if times else None,
            }
        return found
