"""What a run leaves behind, read by the checker: producers' diaries, the emulator's journal, Redis itself.

A producer writes into its diary before and after each call, so that a line is there whatever happens in between.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from groupage_emulator.journal import AnyRecord
from tests.chaos.aof import Writes


class Note(msgspec.Struct, kw_only=True, tag_field="kind", tag=str.lower, omit_defaults=True, frozen=True):
    """What all notes have: whose request it is."""

    producer: str
    lane: str
    id: str

    @property
    def name(self) -> str:
        """Producer and id, as in `custom_id`."""
        return f"{self.producer}:{self.id}"


class Asked(Note, frozen=True):
    """Written before a submit: nothing is accepted yet.

    Attributes:
        digest: Of the body, which the emulator puts into its answer.
        deadline_at_ms: Unix ms.
        expected: Statuses the request may end in, beside `expired` after its deadline and `cancelled` on demand.
    """

    digest: str
    deadline_at_ms: int
    expected: tuple[str, ...] = ("succeeded",)


class Acked(Note, frozen=True):
    """Written after a submit was acknowledged."""


class Refused(Note, frozen=True):
    """Written after a submit was refused: nothing was accepted."""

    code: str


class Cancelling(Note, frozen=True):
    """Written before a cancel."""


class Replied(Note, frozen=True):
    """Written whenever the producer saw its reply, any number of times."""

    status: str
    digest: str | None
    settled_at_ms: int
    value_hash: str = ""


Violations = Iterator[str]
"""What a rule of the judge finds wrong, a line each."""

AnyNote = Asked | Acked | Refused | Cancelling | Replied

_decoder = msgspec.json.Decoder(AnyNote)
_encode = msgspec.json.Encoder().encode


class Diary:
    """One producer's diary; each note is one write of its own, so that a kill leaves all notes before it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, *notes: AnyNote) -> None:
        """Write notes."""
        self._file.write(b"".join(_encode(note) + b"\n" for note in notes))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_diary(path: Path) -> list[AnyNote]:
    """All notes; a last line that is cut off is left out."""
    if not path.exists():
        return []
    return [
        _decoder.decode(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One key of Redis: its type, its value (a sorted set as a dict), its time to live (ms, -1 for none)."""

    kind: str
    value: Any
    ttl_ms: int = -1


Dump = Mapping[str, Entry]

_READ: Mapping[str, tuple[str, ...]] = {
    "string": ("GET",),
    "hash": ("HGETALL",),
    "list": ("LRANGE", "0", "-1"),
    "zset": ("ZRANGE", "0", "-1", "WITHSCORES"),
    "stream": ("XRANGE", "-", "+"),
    "set": ("SMEMBERS",),
}


def take_dump(redis: Any) -> Dump:
    """All keys of ours, from a blocking client; nobody else may be writing."""
    found: dict[str, Entry] = {}
    for raw in redis.scan_iter(match="g1:*", count=1_000):
        kind = redis.type(raw).decode()
        if kind == "none":
            # its time to live ended while the dump was taken
            continue
        verb, *rest = _READ[kind]
        value = redis.execute_command(verb, raw, *rest)
        if kind == "zset":
            value = {member: float(score) for member, score in zip(value[::2], value[1::2], strict=True)}
        found[raw.decode()] = Entry(kind, value, redis.pttl(raw))
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What was promised in this run, and what was done to it.

    Attributes:
        lanes: Lane -> (region, model) of the deployments that may serve it.
        quotas: Our deployment name -> tokens that may be reserved.
        at_rest: Whether everything had time to end.
        may_fail: Whether faults were such that any request may have failed.
        late_s: Longest time from deadline to reply, seconds; None where workers were away at will.
        honest_tokens: Whether our estimates are at least the service's, so that it never has to refuse.
        forgetful: Whether Redis lost acknowledged writes: what was written twice then is not held against the fleet,
            and producers asked again for what was unanswered.
        canary: Text that stands in every prompt and may stand in no log.
        duplicates_allowed: Whether lists hid batches for longer than the settle window.
        cluster: The fleet's.
        online: Lane -> (region, model) of its online deployment.
        deaths: How many processes died that may have waited for answers of an online deployment.
        keeps_files: Whether the remote files of all the time that Redis may have lost are there: then nothing of it is
            billed again.
    """

    lanes: Mapping[str, frozenset[tuple[str, str]]]
    quotas: Mapping[str, int]
    at_rest: bool = True
    may_fail: bool = False
    late_s: float | None = None
    honest_tokens: bool = False
    forgetful: bool = False
    canary: str = ""
    duplicates_allowed: bool = False
    cluster: str = "test"
    online: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    deaths: int = 0
    keeps_files: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process used at one instant."""

    process: str
    rss_bytes: int
    open_files: int
    spool_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a process may use."""

    rss_bytes: int
    open_files: int
    spool_bytes: int


@dataclasses.dataclass(slots=True, kw_only=True)
class History:
    """All there is to judge a run by."""

    rules: Rules
    notes: list[AnyNote]
    service: list[AnyRecord]
    dump: Dump
    writes: Writes | None = None
    logs: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    usage: list[Usage] = dataclasses.field(default_factory=list)
    bounds: Bounds | None = None

    def of(self, kind: type[Any]) -> Iterator[Any]:
        """Notes of one kind."""
        return (note for note in self.notes if isinstance(note, kind))

    def records(self, kind: type[Any]) -> Iterator[Any]:
        """The service's records of one kind."""
        return (record for record in self.service if isinstance(record, kind))

    @property
    def asked(self) -> dict[str, Asked]:
        """By custom_id; the first one counts."""
        found: dict[str, Asked] = {}
        for note in self.of(Asked):
            found.setdefault(note.name, note)
        return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A reply as it stands in Redis, read by the checker's own eyes."""

    name: str
    lane: str
    status: str
    accepted_at_ms: int
    settled_at_ms: int
    body: bytes
    value_hash: str


def stored_replies(dump: Dump) -> Iterator[Stored]:
    """Every reply key."""
    for key, entry in dump.items():
        lane, producer, kind, request = parse_key(key)
        if kind == "rep":
            yield stored(f"{producer}:{request}", lane, entry.value)


def stored(name: str, lane: str, value: bytes) -> Stored:
    """Read a reply value: `hash|status|accepted|settled|attempts`, newline, JSON."""
    head, _, body = value.partition(b"\n")
    _digest, status, accepted, settled, _attempts = head.decode().split("|")
    return Stored(
        name=name,
        lane=lane,
        status=status,
        accepted_at_ms=int(accepted),
        settled_at_ms=int(settled),
        body=body,
        value_hash=hash_of(value),
    )


def hash_of(value: bytes) -> str:
    """Short fingerprint of a reply value."""
    return hashlib.sha256(value).hexdigest()[:16]


def parse_key(key: str) -> tuple[str, str, str, str]:
    """(lane, producer, kind, rest) of a data key of a producer; empty strings for any other key."""
    if not key.startswith("g1:{"):
        return "", "", "", ""
    lane, _, rest = key[4:].partition("}:")
    parts = rest.split(":", 3)
    if parts[0] != "p" or len(parts) < 3:
        return lane, "", "", ""
    return lane, parts[1], parts[2], parts[3] if len(parts) > 3 else ""


def merged(paths: Iterable[Path]) -> list[AnyNote]:
    """The notes of several diaries."""
    return [note for path in paths for note in read_diary(path)]
