"""How remote objects are marked as ours: file names and batch metadata, always with the cluster's name.

Nothing remote is touched unless prefix *and* cluster match.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from groupage_worker.models import Batch

FILE_PREFIX = "groupage"
_FILE = re.compile(
    r"groupage\.(?P<cluster>[^.]+)\.(?P<batch>[0-9a-f]+(?:-[0-9]+)*)\.a(?P<attempt>\d+)\.jsonl"
)


class Owner(NamedTuple):
    """Which attempt of which batch a remote object belongs to."""

    batch: str
    attempt: int


def input_file_name(cluster: str, batch: Batch) -> str:
    """Name of the input file of one attempt. The cluster's dots become dashes, so that names split at dots."""
    return f"{FILE_PREFIX}.{cluster.replace('.', '-')}.{batch.id}.a{batch.attempt}.jsonl"


def owner_of_file(cluster: str, name: str) -> Owner | None:
    """Whose input file a name says it is; None if it is not of this cluster."""
    match = _FILE.fullmatch(name)
    if match is None or match["cluster"] != cluster.replace(".", "-"):
        return None
    return Owner(batch=match["batch"], attempt=int(match["attempt"]))


def metadata_of(cluster: str, batch: Batch) -> dict[str, str]:
    """Metadata of a remote batch: at most 16 pairs, values are strings (azure-batch.md 4.1, 2026-11-20)."""
    return {
        "groupage_cluster": cluster,
        "groupage_batch": batch.id,
        "groupage_attempt": str(batch.attempt),
        "groupage_fence": str(batch.fence),
        "groupage_lane": batch.lane,
        "groupage_deployment": batch.deployment,
        "groupage_lines": str(batch.lines),
    }


def owner_of_batch(cluster: str, metadata: Mapping[str, str] | None) -> Owner | None:
    """Which attempt a remote batch says it is; None if it is not of this cluster, or says nothing."""
    if not metadata or metadata.get("groupage_cluster") != cluster:
        return None
    attempt = metadata.get("groupage_attempt", "")
    if not attempt.isdigit() or not metadata.get("groupage_batch"):
        return None
    return Owner(batch=metadata["groupage_batch"], attempt=int(attempt))
