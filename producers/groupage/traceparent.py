"""Trace contexts as text and as numbers: what both sides have to agree on; needs no OpenTelemetry.

The text is the W3C `traceparent` (w3.org/TR/trace-context, version 00: 55 characters; from memory, 2026-11-21). It
begins with a version of its own, and a reader takes the first four fields of any later one.
"""

import hashlib
import re
from typing import Final, NamedTuple

TRACEPARENT_CHARS: Final = 55
"""Of version 00; no reader looks further."""

SAMPLED: Final = 1
"""The one flag that is used: somebody keeps this span."""

_TEXT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Mark(NamedTuple):
    """What names a span everywhere: its trace and itself, 128 and 64 bits, and its flags."""

    trace_id: int
    span_id: int
    flags: int = SAMPLED

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def read_mark(text: bytes | str | None) -> Mark | None:
    """The mark in a `traceparent`; None for whatever is none, because nobody waits for a trace."""
    if isinstance(text, bytes):
        text = text[:TRACEPARENT_CHARS].decode("ascii", "replace")
    found = _TEXT.fullmatch((text or "")[:TRACEPARENT_CHARS])
    if found is None:
        return None
    mark = Mark(*(int(part, 16) for part in found.groups()))
    return mark if mark.trace_id and mark.span_id else None


def mark_of_batch(batch: str, attempt: int) -> Mark:
    """The span of one attempt of a batch: every process makes the same of its name, so that nothing has to be stored.

    All attempts of a batch share a trace.
    """
    trace = hashlib.sha256(f"groupage batch {batch}".encode()).digest()
    span = hashlib.sha256(f"groupage batch {batch} attempt {attempt}".encode()).digest()
    return Mark(int.from_bytes(trace[:16]), int.from_bytes(span[:8]))
