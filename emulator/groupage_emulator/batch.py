"""One batch: its fields, and how far it has come (section 4 of `reference/azure-batch.md`, 2026-11-20)."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from groupage_emulator.clock import Timer
from groupage_emulator.faults import Rule
from groupage_emulator.ledger import Ledger
from groupage_emulator.plan import Plan
from groupage_emulator.profiles import Profile
from groupage_emulator.throughput import Share


class Status(StrEnum):
    """The remote statuses of section 4.4."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to the batch any more."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)


@dataclass(slots=True, kw_only=True, eq=False)
class Batch:
    """One batch of a region.

    Attributes:
        id: `batch_` and a UUID.
        input_path: A link to the input file's bytes, which outlives the file's deletion.
        profile: Of the create: it decides about output rows and validation, not about later answers.
        deployment: Named by the first line, or empty when that has none.
        ledger: The deployment's, or None with it.
        estimate: Tokens at POST.
        times: When each status was reached, service seconds.
        faults: Rules that fired for this batch, by kind.
        done: Number of lines worked off when it was stopped.
        is_closing: Whether rows are being written, from when on nothing can stop it.
    """

    id: str
    number: int
    input_file_id: str
    input_path: Path
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    profile: Profile
    deployment: str
    ledger: Ledger | None
    estimate: int
    created_at: float
    expires_at: float
    output_expiry_s: int | None = None
    status: Status = Status.VALIDATING
    times: dict[Status, float] = field(default_factory=dict)
    errors: list[dict[str, object]] | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    plan: Plan | None = None
    faults: dict[str, Rule] = field(default_factory=dict)
    timer: Timer | None = None
    share: Share | None = None
    run_s: float = 0.0
    done: int = 0
    is_closing: bool = False

    @property
    def code(self) -> str | None:
        """The first validation error's code."""
        return None if not self.errors else str(self.errors[0]["code"])

    def after(self, kind: str) -> float:
        """The service time from which a fault of this kind is in force; infinite without one."""
        rule = self.faults.get(kind)
        return math.inf if rule is None else self.created_at + (rule.seconds or 0.0)

    def hidden_until(self) -> float:
        """Until when the batch is left out of lists."""
        rule = self.faults.get("list_lag")
        if rule is None:
            return 0.0
        return math.inf if rule.seconds is None else self.created_at + rule.seconds

    def stuck_s(self, status: Status) -> float:
        """How much longer a fault holds the batch in a status; infinite for ever."""
        rule = self.faults.get("stuck")
        if rule is None or rule.state != status:
            return 0.0
        return math.inf if rule.seconds is None else rule.seconds
