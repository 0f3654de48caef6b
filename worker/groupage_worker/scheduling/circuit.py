"""Circuit of a deployment: whether it gets new work, a probe, or none. What is in flight there stays.

Pull makes this mandatory: a region that fails fast looks fastest and swallows everything (performance-details.md 2.5,
2026-11-20). Only a batch that completes closes a circuit; a create that is accepted proves nothing.
"""

import dataclasses
from enum import StrEnum
from typing import Final

STRIKES_MAX: Final = 2
OPEN_FIRST_S: Final = 300.0
OPEN_MAX_S: Final = 3_600.0
"""Two failures of the service in a row open a circuit for 5 min, doubling to 60 (the same, 2.7 rule 9)."""

SILENT_MIN_S: Final = 1_800.0
SILENT_RATIO: Final = 2.0
"""A deployment that shows no change for so long, and for so many times its usual residence, stalls."""


class Admission(StrEnum):
    """What a deployment may be given."""

    ALL = "all"
    PROBE = "probe"
    """One small batch."""
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """What went wrong at a deployment since it last completed a batch.

    Attributes:
        strikes: Failures in a row.
        opened_at_ms: When it was opened last; 0: closed. Later failures of older batches are the same trouble.
        until_ms: No new batch before this instant.
        probe_at_ms: When a probe was sent; 0: none is out.
        reason: Code of the last failure.
    """

    strikes: int = 0
    opened_at_ms: int = 0
    until_ms: int = 0
    probe_at_ms: int = 0
    reason: str = ""

    def admission(self, now_ms: int) -> Admission:
        """What the deployment may be given now."""
        if not self.opened_at_ms:
            return Admission.ALL
        if now_ms < self.until_ms or self.probe_at_ms:
            return Admission.NOTHING
        return Admission.PROBE


def completed() -> Circuit:
    """A batch completed: all is well."""
    return Circuit()


def failed(circuit: Circuit, *, now_ms: int, created_at_ms: int, reason: str) -> Circuit:
    """A batch failed through the service's fault, or its create did."""
    if circuit.opened_at_ms and created_at_ms < circuit.opened_at_ms:
        return circuit
    strikes = circuit.strikes + 1
    if strikes < STRIKES_MAX:
        return dataclasses.replace(circuit, strikes=strikes, reason=reason)
    return _opened(strikes, now_ms=now_ms, reason=reason)


def stalled(circuit: Circuit, *, now_ms: int) -> Circuit:
    """The watchdog found that nothing moves there."""
    if circuit.opened_at_ms:
        return circuit
    return _opened(STRIKES_MAX, now_ms=now_ms, reason="stalled")


def probed(circuit: Circuit, *, now_ms: int) -> Circuit:
    """A probe was sent."""
    return dataclasses.replace(circuit, probe_at_ms=now_ms)


def _opened(strikes: int, *, now_ms: int, reason: str) -> Circuit:
    seconds = min(OPEN_MAX_S, OPEN_FIRST_S * 2.0 ** min(strikes - STRIKES_MAX, 20))
    return Circuit(strikes=strikes, opened_at_ms=now_ms, until_ms=now_ms + int(seconds * 1000), reason=reason)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Signs of life of one deployment.

    Attributes:
        in_flight: Batches at the service.
        silent_s: Seconds since any of them changed its status or its counts, or was created while none was there.
        residence_s: Mean time of a batch there, seconds.
        is_counting: Whether the counts of a running batch there moved before: then silence weighs more.
    """

    name: str
    in_flight: int
    silent_s: float
    residence_s: float
    is_counting: bool = False


def is_stalled(activity: Activity, peers_silent_s: float) -> bool:
    """Whether a deployment makes no progress while another does.

    Args:
        activity: Its signs of life.
        peers_silent_s: The least silence among the other deployments; infinite if there is none with work. Where
            nobody moves, the trouble is ours or everybody's, and moving work would not help.
    """
    if not activity.in_flight:
        return False
    patience_s = SILENT_MIN_S
    if not activity.is_counting:
        patience_s = max(patience_s, SILENT_RATIO * activity.residence_s)
    return activity.silent_s > patience_s and peers_silent_s < SILENT_MIN_S
