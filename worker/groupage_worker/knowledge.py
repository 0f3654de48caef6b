"""What the fleet knows of one deployment beside its settings, as one value: learned, kept in Redis, given to decisions.

Every worker learns into the same value, so each change is a function from the old one to the new one; the store
repeats it when another worker was quicker. Functions of values.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final

import msgspec

from groupage_worker import quota as quotas
from groupage_worker.quota import SharedLimit, usable_tokens
from groupage_worker.scheduling import circuit as circuits
from groupage_worker.scheduling.circuit import Admission, Circuit
from groupage_worker.scheduling.estimates import TokenFactor
from groupage_worker.scheduling.learning import Learned

FIELD: Final = "known"
"""Field of the deployment's hash in Redis that holds it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Signs of life of a deployment.

    Attributes:
        changed_at_ms: When a batch there last changed its status or its counts; what follows from our own cancels
            is no sign.
        advanced_at_ms: When a batch there last came further than its start, or was accepted where no other was.
        is_counting: Whether the counts of a running batch there ever moved.
        is_stalled: Nothing has moved there for too long while others moved.
    """

    changed_at_ms: int = 0
    advanced_at_ms: int = 0
    is_counting: bool = False
    is_stalled: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What is known of one deployment.

    Attributes:
        learned: Overheads, runs, size of a slice.
        circuit: What went wrong there since a batch last completed.
        shared: What refusals told of others who use its quota.
        signs: Signs of life.
        factors: Lane -> how many tokens the service counts for one that we estimate.
        probe: Batch that was sent to see whether the deployment works; empty: none is out.
        quota_tokens: Its quota as the service's own headers last said; 0: they never did.
    """

    learned: Learned = dataclasses.field(default_factory=Learned)
    circuit: Circuit = dataclasses.field(default_factory=Circuit)
    shared: SharedLimit = dataclasses.field(default_factory=SharedLimit)
    signs: Signs = dataclasses.field(default_factory=Signs)
    factors: Mapping[str, TokenFactor] = dataclasses.field(default_factory=dict)
    probe: str = ""
    quota_tokens: int = 0

    def factor(self, lane: str) -> TokenFactor:
        """What is known of a lane's estimates here."""
        found = self.factors.get(lane)
        if found is None or (found.batches and not found.lines):
            return TokenFactor()  # nothing, or as older releases learned it: with what lines add
        return found

    def is_proven(self, lane: str) -> bool:
        """Whether it is known how the service counts a lane here, or at least how batches here end."""
        return self.learned.batches > 0 or self.factor(lane).is_known

    def usable_tokens(self, quota_tokens: int, margin_ratio: float) -> int:
        """The part of a quota that we fill; the service's own headers may know that it is smaller than set.

        Args:
            quota_tokens: The quota as the settings say.
            margin_ratio: Share of it that is used.
        """
        return usable_tokens(min(quota_tokens, self.quota_tokens or quota_tokens), margin_ratio)

    def limit_tokens(self, quota_tokens: int, margin_ratio: float, *, now_ms: int) -> int:
        """What may be reserved now: the usable part, or less while refusals tell that others hold the rest."""
        return self.shared.limit_tokens(self.usable_tokens(quota_tokens, margin_ratio), now_ms)

    def admission(self, now_ms: int) -> Admission:
        """What the deployment may be given now."""
        return self.circuit.admission(now_ms)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Knowledge)


def pack(known: Knowledge) -> bytes:
    """As one field of the deployment's hash in Redis."""
    return _encoder.encode(known)


def unpack(value: bytes | None) -> Knowledge:
    """Read it back; what is absent or unreadable is learned anew, what a newer release added is left out."""
    if not value:
        return Knowledge()
    try:
        return _decoder.decode(value)
    except msgspec.MsgspecError:
        return Knowledge()


def failed(known: Knowledge, *, now_ms: int, created_at_ms: int, reason: str) -> Knowledge:
    """A batch failed through the service's fault, or could not be brought there."""
    circuit = circuits.failed(known.circuit, now_ms=now_ms, created_at_ms=created_at_ms, reason=reason)
    return known if circuit == known.circuit else dataclasses.replace(known, circuit=circuit, probe="")


def proven(known: Knowledge, *, now_ms: int, within_s: float) -> Knowledge:
    """A batch ended there: what a refusal told before any had is believed for no longer than `within_s` seconds."""
    if known.shared.cap_tokens < 0 or known.learned.batches:
        return known
    return dataclasses.replace(known, shared=quotas.proven(known.shared, now_ms=now_ms, within_s=within_s))


def counted(known: Knowledge, lane: str, factor: TokenFactor, *, now_ms: int) -> Knowledge:
    """A lane's factor there is this now; with the first one, refusals of before are explained."""
    shared = known.shared
    if shared.cap_tokens >= 0 and not known.factor(lane).is_known and factor.is_known:
        shared = quotas.proven(shared, now_ms=now_ms)
    return dataclasses.replace(known, shared=shared, factors={**known.factors, lane: factor})


def probed(known: Knowledge, *, now_ms: int, batch: str) -> Knowledge:
    """A batch was sent to see whether the deployment works."""
    return dataclasses.replace(known, circuit=circuits.probed(known.circuit, now_ms=now_ms), probe=batch)


def unprobed(known: Knowledge, batch: str) -> Knowledge:
    """A probe ended without telling anything: another one may go."""
    if known.probe != batch:
        return known
    return dataclasses.replace(known, circuit=dataclasses.replace(known.circuit, probe_at_ms=0), probe="")


def moved(known: Knowledge, *, now_ms: int, is_counting: bool, gets_on: bool = True) -> Knowledge:
    """A batch there showed a sign of life; that one starts, or ends undone, does not say that any gets further there."""
    signs = Signs(
        changed_at_ms=now_ms,
        advanced_at_ms=now_ms if gets_on else known.signs.advanced_at_ms,
        is_counting=known.signs.is_counting or is_counting,
        is_stalled=known.signs.is_stalled and not gets_on,
    )
    return dataclasses.replace(known, signs=signs)
