"""How long a batch at the service is waited for: what tracking by itself and by list must agree on."""

from typing import Final

from groupage_worker.models import Batch
from groupage_worker.settings import TrackSettings
from groupage_worker.states import RemoteStatus

NOBODY_WAITS_AFTER_S: Final = 3_600.0
"""From this age on it is looked, now and then, whether anybody still waits for a batch; the look ends at the first
who does."""


def is_stuck(track: TrackSettings, batch: Batch, status: RemoteStatus | None, *, now_ms: int) -> bool:
    """Whether a batch has been in one status for longer than any batch should."""
    limits = {
        RemoteStatus.VALIDATING: track.validating_max_s,
        RemoteStatus.IN_PROGRESS: track.running_max_s,
        RemoteStatus.FINALIZING: track.finalizing_max_s,
    }
    since = batch.status_at_ms or batch.submitted_at_ms
    return now_ms - since > limits.get(status or RemoteStatus.IN_PROGRESS, track.running_max_s) * 1000


def may_be_forgotten(batch: Batch, *, now_ms: int) -> bool:
    """Whether a batch is so old that perhaps nobody waits for it any more."""
    return now_ms - batch.submitted_at_ms > NOBODY_WAITS_AFTER_S * 1000
