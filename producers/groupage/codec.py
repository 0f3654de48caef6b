"""Bytes in Redis <-> the shapes of `contract`.

A request value is a header of ASCII and then the body, canonical JSON without `model`:

    offset 0       `w` waiting, `c` claimed into a batch
    offset 1       layout version of the header, `1`
    offset 2-3     failed attempts so far, two digits
    offset 4-35    SHA-256 of the body, first 32 hex digits
    offset 36-51   client to notify, 16 characters
    offset 52-64   accepted_at_ms, 13 digits: tells one acceptance of an id from the next
    offset 65-     |deadline_at_ms|tokens|bytes|priority, newline

The fixed offsets let scripts read and flip single fields without moving the body.

A reply value is `hash|status|accepted_at_ms|settled_at_ms|attempts`, newline, and `contract.WireReply` as JSON.
"""

import hashlib

import msgspec

from groupage.contract import Priority, Reply, Status, WireReply
from groupage.encryption import EncryptionError, KeyRing, is_sealed

HEADER_BYTES_MAX = 160
"""Enough to hold any header; scripts and `status` read this much of a value."""

HASH_CHARS = 32
CLIENT_CHARS = 16
INSTANT_CHARS = 13

_STATUSES = {status.value: status for status in Status}
_wire_decoder = msgspec.json.Decoder(WireReply)


class Header(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The header of a request value."""

    is_claimed: bool
    attempts: int
    body_hash: str
    client: str
    deadline_at_ms: int
    accepted_at_ms: int
    tokens: int
    body_bytes: int
    priority: Priority


def body_hash(body: bytes) -> str:
    """First 32 hex digits of the SHA-256 of a canonical body."""
    return hashlib.sha256(body).hexdigest()[:HASH_CHARS]


def pack_request(
    body: bytes,
    *,
    digest: str,
    client: str,
    deadline_at_ms: int,
    accepted_at_ms: int,
    tokens: int,
    priority: Priority,
) -> bytes:
    """Make the value of a request key for a request that waits."""
    stamp = stamp_of(client, accepted_at_ms)
    return pack_header(digest, stamp, deadline_at_ms, tokens, len(body), priority.value) + body


def stamp_of(client: str, accepted_at_ms: int) -> str:
    """What the headers of requests that are submitted together have in common."""
    return f"{client}{accepted_at_ms:013d}"


def pack_header(  # noqa: PLR0917 - once for each request: names for them take longer than the work
    digest: str, stamp: str, deadline_at_ms: int, tokens: int, body_bytes: int, priority: str
) -> bytes:
    """Make the header of a request that waits; `stamp` is of `stamp_of`."""
    return f"w100{digest}{stamp}|{deadline_at_ms}|{tokens}|{body_bytes}|{priority}\n".encode("ascii")


def unpack_header(value: bytes) -> Header:
    """Read the header of a request value, or of its first `HEADER_BYTES_MAX` bytes.

    Raises:
        ValueError: If it is not a header of this layout version.
    """
    line, newline, _ = value.partition(b"\n")
    if not newline or value[1:2] != b"1":
        raise ValueError(f"not a request header of layout 1: {value[:4]!r}")
    accepted, deadline, tokens, size, priority = line[52:].decode("ascii").split("|")
    return Header(
        is_claimed=value[:1] == b"c",
        attempts=int(value[2:4]),
        body_hash=value[4:36].decode("ascii"),
        client=value[36:52].decode("ascii"),
        deadline_at_ms=int(deadline),
        accepted_at_ms=int(accepted),
        tokens=int(tokens),
        body_bytes=int(size),
        priority=Priority(priority),
    )


def body_of(value: bytes) -> bytes:
    """The canonical body behind the header of a request value."""
    return value[value.index(b"\n") + 1 :]


class ReplyHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The first line of a reply value."""

    body_hash: str
    status: Status
    accepted_at_ms: int
    settled_at_ms: int
    attempts: int


def unpack_reply_head(value: bytes) -> ReplyHead:
    """Read the first line of a reply value.

    Raises:
        ValueError: If it is none.
    """
    digest, status, accepted, settled, attempts = value[: value.index(b"\n")].decode("ascii").split("|")
    return ReplyHead(
        body_hash=digest,
        # a look into a table takes a tenth of an enum's call
        status=_STATUSES.get(status) or Status(status),
        accepted_at_ms=int(accepted),
        settled_at_ms=int(settled),
        attempts=int(attempts),
    )


def unpack_reply(value: bytes, *, id: str, lane: str, ring: KeyRing | None = None) -> Reply:  # noqa: A002 - the word of the contract
    """Decode a whole reply value; one that is encrypted needs the producer's keys.

    Raises:
        EncryptionError: If it is encrypted and does not open.
        ValueError: If the first line is malformed.
        msgspec.DecodeError: If the JSON part is.
    """
    head = unpack_reply_head(value)
    text = body_of(value)
    if is_sealed(text):
        if ring is None:
            raise EncryptionError(f"reply {id!r} is encrypted: give the Producer its keys_dir")
        text = ring.open("reply", id, text)
    wire = _wire_decoder.decode(text)
    return Reply(
        id=id,
        lane=lane,
        status=head.status,
        status_code=wire.status_code,
        body=msgspec.json.decode(wire.body),
        usage=wire.usage,
        error=wire.error,
        cost_usd=wire.cost_usd,
        online_cost_usd=wire.online_cost_usd,
        batch=wire.batch,
        deployment=wire.deployment,
        region=wire.region,
        attempts=head.attempts,
        accepted_at_ms=head.accepted_at_ms,
        submitted_at_ms=wire.submitted_at_ms,
        finished_at_ms=wire.finished_at_ms,
        settled_at_ms=head.settled_at_ms,
        batch_attempt=wire.batch_attempt,
    )
