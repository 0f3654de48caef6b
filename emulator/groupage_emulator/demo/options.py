"""What a demo can be told, as values."""

import dataclasses
from pathlib import Path

REQUESTS = 20_000
WORKERS = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One demo.

    Attributes:
        requests: Of all producers together.
        workers: Worker processes.
        seed: Of bodies, service times and faults.
        is_calm: Nothing goes wrong on purpose.
        kills_worker: One worker is killed with SIGKILL when half of the replies are there.
        keep: Where journals, settings and logs stay; None removes them.
        json: Where the summary goes as JSON.
        stall_s: So many seconds without any reply are a failure.
    """

    requests: int = REQUESTS
    workers: int = WORKERS
    seed: int = 1
    is_calm: bool = False
    kills_worker: bool = False
    keep: Path | None = None
    json: Path | None = None
    stall_s: float = 60.0
