"""Which of several remote batches counts, where more than one is ours for one batch."""

from groupage_worker.azure.wire import RemoteBatch
from groupage_worker.states import RemoteStatus

_PROGRESS = {
    RemoteStatus.COMPLETED: 6,
    RemoteStatus.FINALIZING: 5,
    RemoteStatus.IN_PROGRESS: 4,
    RemoteStatus.VALIDATING: 3,
    RemoteStatus.EXPIRED: 2,
    RemoteStatus.CANCELLING: 1,
    RemoteStatus.CANCELLED: 1,
    RemoteStatus.FAILED: 0,
}


def most_advanced_first(found: list[RemoteBatch]) -> list[RemoteBatch]:
    """Remote batches of one attempt, or of one file, the one that is nearest to its results first."""
    return sorted(found, key=lambda r: _PROGRESS.get(r.status, 0) if r.status else 0, reverse=True)


def best_of(found: list[RemoteBatch], own_id: str) -> tuple[RemoteBatch, bool]:
    """The batch that counts among several of one file, whose attempts cannot be told from each other.

    Args:
        found: One at least.
        own_id: The one that the record names, preferred where others are no nearer to their results.

    Returns:
        The batch, and whether it must be of a later attempt than the record's, whose own batch is there and behind it.
    """
    own_first = sorted(found, key=lambda remote: remote.id != own_id)
    best, *_ = most_advanced_first(own_first)
    return best, own_first[0].id == own_id != best.id
