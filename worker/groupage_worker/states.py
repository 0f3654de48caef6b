"""The life of a batch: our states, the service's statuses, and which moves are legal.

claiming → sealed → uploading → uploaded → creating → submitted → delivering → cleaning → closed
"""

from enum import StrEnum
from typing import Final


class BatchState(StrEnum):
    """Where a batch is. Each state names what its next step does, so a crash leaves work that knows itself."""

    CLAIMING = "claiming"
    """Requests are being taken into the manifest."""
    ANSWERING = "answering"
    """Each request is asked by itself, through an online deployment."""
    SEALED = "sealed"
    """The manifest is closed; the input file is not yet sent."""
    UPLOADING = "uploading"
    """Intent: an input file of this attempt may exist at the service."""
    UPLOADED = "uploaded"
    """The input file is there; wait until it is `processed`, and for quota."""
    CREATING = "creating"
    """Intent: a remote batch of this attempt may exist."""
    RESOLVING = "resolving"
    """A create was unclear: look for the batch before anything else."""
    ADOPTING = "adopting"
    """Redis forgot this batch or a part of it: its requests are being regained from the input file."""
    SUBMITTED = "submitted"
    """The remote batch exists; follow it."""
    DELIVERING = "delivering"
    """The remote batch ended; read its files and settle every request."""
    SPLITTING = "splitting"
    """The service refused the whole file for one bad line: eject it, or halve the batch."""
    REQUEUEING = "requeueing"
    """Every request goes back to its lane, because the deployment is to blame."""
    CLEANING = "cleaning"
    """Every request is settled or requeued; remote files wait for their grace time and are deleted."""
    QUARANTINED = "quarantined"
    """Nobody knows what to do: requests stay until a person or their deadlines decide."""
    CLOSED = "closed"
    """Nothing of it is left but its record."""


class RemoteStatus(StrEnum):
    """The service's own status of a batch (how-to page of 2024-08-12; azure-batch.md 4.4, 2026-11-20)."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset(
    {RemoteStatus.FAILED, RemoteStatus.COMPLETED, RemoteStatus.EXPIRED, RemoteStatus.CANCELLED},
)
"""Statuses after which a remote batch changes no more and its tokens are free again."""

_S = BatchState
LEGAL: Final[dict[BatchState, frozenset[BatchState]]] = {
    _S.ANSWERING: frozenset({_S.ANSWERING, _S.CLEANING}),
    _S.CLAIMING: frozenset({_S.CLAIMING, _S.ANSWERING, _S.SEALED, _S.CLOSED, _S.ADOPTING}),
    _S.SEALED: frozenset({_S.SEALED, _S.UPLOADING, _S.RESOLVING, _S.REQUEUEING, _S.ADOPTING}),
    _S.UPLOADING: frozenset(
        {
            *(_S.UPLOADING, _S.UPLOADED, _S.SEALED, _S.RESOLVING, _S.SPLITTING),
            *(_S.REQUEUEING, _S.QUARANTINED, _S.CLEANING, _S.ADOPTING),
        },
    ),
    _S.UPLOADED: frozenset(
        {_S.UPLOADED, _S.CREATING, _S.SEALED, _S.RESOLVING, _S.REQUEUEING, _S.ADOPTING},
    ),
    _S.CREATING: frozenset(
        {
            *(_S.SUBMITTED, _S.RESOLVING, _S.UPLOADED, _S.SEALED),
            *(_S.SPLITTING, _S.REQUEUEING, _S.QUARANTINED, _S.ADOPTING),
        },
    ),
    _S.RESOLVING: frozenset({_S.RESOLVING, _S.SUBMITTED, _S.SEALED, _S.REQUEUEING, _S.ADOPTING}),
    _S.ADOPTING: frozenset({_S.ADOPTING, _S.SUBMITTED, _S.RESOLVING, _S.CLEANING}),
    _S.SUBMITTED: frozenset(
        {
            *(_S.SUBMITTED, _S.DELIVERING, _S.UPLOADED, _S.SEALED),
            *(_S.SPLITTING, _S.REQUEUEING, _S.QUARANTINED, _S.ADOPTING),
        },
    ),
    _S.DELIVERING: frozenset({_S.DELIVERING, _S.CLEANING, _S.ADOPTING}),
    _S.SPLITTING: frozenset({_S.SPLITTING, _S.SEALED, _S.CLEANING, _S.QUARANTINED}),
    _S.REQUEUEING: frozenset({_S.REQUEUEING, _S.CLEANING}),
    _S.CLEANING: frozenset({_S.CLEANING, _S.CLOSED, _S.DELIVERING, _S.ADOPTING}),
    _S.QUARANTINED: frozenset({_S.QUARANTINED, _S.CLEANING, _S.REQUEUEING}),
    _S.CLOSED: frozenset(),
}
"""State -> states a step may commit."""

HEAVY: Final = frozenset(
    {
        _S.CLAIMING,
        _S.ANSWERING,
        _S.SEALED,
        _S.UPLOADING,
        _S.ADOPTING,
        _S.DELIVERING,
        _S.SPLITTING,
        _S.REQUEUEING,
    },
)
"""States whose step moves whole files or manifests; they run on their own arq queue."""

BEFORE_SUBMITTED: Final = frozenset(
    {_S.CLAIMING, _S.SEALED, _S.UPLOADING, _S.UPLOADED, _S.CREATING, _S.RESOLVING},
)
"""States in which a record says that there is no remote batch, or is not sure."""
