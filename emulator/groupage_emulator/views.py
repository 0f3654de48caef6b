"""Objects as each profile shows them (sections 2.2, 4.2, 4.3 and 4.5 of `azure-batch.md`, 2026-11-20)."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from groupage_emulator import replies
from groupage_emulator.batch import Batch, Status
from groupage_emulator.files import StoredFile
from groupage_emulator.profiles import Profile

JSON = dict[str, object]

_TERM = re.compile(r"^(created_at|status) (eq|gt|lt|ge|le) ('[A-Za-z_]+'|\d+)$")
_ORDER = re.compile(r"^created_at( asc| desc)?$")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "eq": lambda left, right: left == right,
    "gt": lambda left, right: left > right,
    "lt": lambda left, right: left < right,
    "ge": lambda left, right: left >= right,
    "le": lambda left, right: left <= right,
}


def _time(at_s: float | None, profile: Profile) -> int | str | None:
    """A timestamp: Unix seconds, or ISO-8601 with seven fractional digits."""
    if at_s is None:
        return None
    if profile.iso_times:
        moment = datetime.fromtimestamp(at_s, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}0+00:00"
    return int(at_s)


def file(stored: StoredFile, profile: Profile) -> JSON:
    """A file object."""
    shown: JSON = {
        "id": stored.id,
        "object": "file",
        "bytes": stored.size_bytes,
        "created_at": _time(stored.created_at, profile),
        "filename": stored.filename,
        "purpose": stored.purpose,
        "status": stored.status,
        "status_details": stored.status_details,
    }
    if stored.expires_at is not None:
        shown["expires_at"] = _time(stored.expires_at, profile)
    return shown


def _capital(status: Status) -> str:
    """`InProgress` for `in_progress`, as raw answers of 2024 have it."""
    return status.title().replace("_", "")


def batch(one: Batch, profile: Profile, completed_now: int, *, has_metadata: bool = True) -> JSON:
    """A batch object.

    Args:
        one: The batch.
        profile: Of the request that asks, not of the create.
        completed_now: Lines worked off, for a batch that is not terminal.
        has_metadata: False leaves `metadata` out.
    """
    is_over = one.status.is_terminal
    counts: JSON = {
        "total": one.total,
        "completed": one.completed if is_over else completed_now,
        "failed": one.failed,
    }
    if profile.null_counts and one.status is Status.VALIDATING:
        counts = dict.fromkeys(counts)
    if "counts_odd" in one.faults:
        counts |= {"completed": min(1, one.total), "failed": 0}
    times = one.times
    shown: JSON = {
        "id": one.id,
        "object": "batch",
        "endpoint": None if profile.null_endpoint else one.endpoint,
        "errors": None if one.errors is None else {"object": "list", "data": one.errors},
        "input_file_id": one.input_file_id,
        "completion_window": one.completion_window,
        "status": _capital(one.status) if profile.capital_status else one.status.value,
        "output_file_id": profile.empty_id if one.output_file_id is None else one.output_file_id,
        "error_file_id": profile.empty_id if one.error_file_id is None else one.error_file_id,
        "created_at": _time(one.created_at, profile),
        "expires_at": _time(one.expires_at, profile),
        "request_counts": counts,
        "metadata": None if "metadata_null" in one.faults else one.metadata,
    }
    for status in list(Status)[1:]:
        shown[f"{status}_at"] = _time(times.get(status), profile)
    if not has_metadata:
        del shown["metadata"]
    return _odd(shown, one) if "object_odd" in one.faults else shown


def _odd(shown: JSON, one: Batch) -> JSON:
    """Casing and types that a client must survive (F25)."""
    odd = {name: str(value) if isinstance(value, int) else value for name, value in shown.items()}
    return odd | {"status": _capital(one.status), "request_counts": None, "x_unknown": {"nested": [1, None]}}


def page(entries: list[JSON], profile: Profile, *, has_more: bool) -> JSON:
    """A list of batches."""
    shown: JSON = {profile.list_key: entries, "has_more": has_more}
    if profile.list_object:
        shown |= {
            "object": "list",
            "first_id": entries[0]["id"] if entries else None,
            "last_id": entries[-1]["id"] if entries else None,
        }
    return shown


def select(batches: Iterable[Batch], odata: str) -> list[Batch]:
    """The batches that fit a `$filter`: terms on `created_at` and `status`, joined by `and`.

    Raises:
        Refusal: The filter is none of these.
    """
    kept = list(batches)
    for term in odata.split(" and "):
        found = _TERM.match(term.strip())
        if found is None or (found[1] == "created_at") == found[3].startswith("'"):
            raise replies.error_envelope(400, "invalidPayload", f"The filter '{odata}' is not supported.")
        if found[1] == "status":
            wanted = found[3].strip("'").replace("_", "").lower()
            kept = [one for one in kept if one.status.replace("_", "") == wanted]
        else:
            compare, than = _COMPARE[found[2]], int(found[3])
            kept = [one for one in kept if compare(int(one.created_at), than)]
    return kept


def is_ascending(order: str | None) -> bool:
    """Whether `$orderby` wants the oldest first; the default is newest first.

    Raises:
        Refusal: It names anything but `created_at`.
    """
    if order is None:
        return False
    if _ORDER.match(order) is None:
        raise replies.error_envelope(400, "invalidPayload", f"The order '{order}' is not supported.")
    return not order.endswith(" desc")
