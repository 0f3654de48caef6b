"""Downloads that go on where an earlier one ended, whether the service knows ranges (RFC 9110, 14.2) or not.

No source says whether it does (azure-batch.md 2.5, 2026-11-20), so both answers are right: the rest, or all of it again.
"""

import sys

import httpx


def range_of(from_byte: int) -> dict[str, str]:
    """Headers that ask for the rest of a file; none for the whole."""
    return {"range": f"bytes={from_byte}-"} if from_byte else {}


def is_past_end(response: httpx.Response, from_byte: int) -> bool:
    """Whether the service says that nothing is left beyond this byte."""
    return from_byte > 0 and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE


def known_bytes(response: httpx.Response, from_byte: int) -> int | None:
    """Bytes at the head of an answer that the reader has already.

    Returns:
        None if the answer is another part of the file than the one that was asked for.
    """
    if is_past_end(response, from_byte):
        return sys.maxsize
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return from_byte
    return 0 if response.headers.get("content-range", "").startswith(f"bytes {from_byte}-") else None
