"""The worker's own shapes: a batch, and where it goes next."""

import dataclasses
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from groupage.contract import Priority
from groupage_worker.states import HEAVY, BatchState

KEEP = "keep"
RELEASE = "release"

CANCEL = "cancel"
RETRY = "retry"
DROP = "drop"
"""What a person may ask of a batch; `Batch.wish`."""


def new_batch_id(now_ms: int) -> str:
    """An id that sorts by time: 11 hex digits of Unix ms and 40 random bits."""
    return f"{now_ms:011x}{secrets.token_hex(5)}"


def opened_at_ms(batch: str) -> int:
    """When a batch was opened, by its id, or by that of an attempt of it; 0 for an id that nobody of us made."""
    try:
        return int(batch[:11], 16)
    except ValueError:
        return 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The record of a batch as `begin` found it.

    Attributes:
        attempt: Which remote batch this is the record of, counted from 1.
        fence: Holder's number; a commit with an older one is refused.
        runs: Begins of this state without a commit, this one included; above 1 a step was cut short before.
        deaths: Those of `runs` before this one that ended without a word: killed, or cut off from Redis.
        spared_deaths: What `deaths` was when the step was last put off for them (`poison`).
        uploads: Uploads begun for this batch; above 1 an older file may exist.
        retries: Errors in a row on the way out of this state; an intent's state carries them on.
        misses: Looks in a row that did not find the remote batch.
        cuts: Downloads that ended in the middle of a file and brought nothing new.
        output_read_bytes: So much of the output file is settled, up to a line's end; `error_read_bytes` likewise.
        quota_refusals: Refusals for quota since a create went through validation.
        suspects: custom_ids that may be what the service refused, separated by blanks; they leave the batch.
        cut: With no suspects: every custom_id above this one leaves the batch.
        looks: Lists of remote batches that did not show an unclear create.
        unclear_creates: Creates without a clear answer since one went through validation.
        tokens: Estimated input tokens of its lines, what a line adds to a request included; `lines` and
            `file_bytes` describe the input file.
        reserve_tokens: What was reserved for `tokens` when it was opened, as the service will count them.
        is_urgent: 1 if only urgent requests went in.
        deadline_at_ms: Earliest deadline in it; 0 while it is empty.
        run_at_ms: When the service began to work on it; 0 while it waits.
        done_lines: Lines that the service said are done.
        moves: How often its requests were moved from one deployment to another.
        target: Deployment that its rest goes to, once the remote batch is cancelled; empty: it stays.
        move_reason: Why.
        names: custom_ids that it is filled with, separated by blanks; empty: with whoever is next.
        epoch: Number of the Redis epoch in which it was last certain that the record knows what the service knows.
        terminal_at_ms: When the tracker saw the remote batch end; 0 before.
        wish: What a person asked for: `cancel` while it is submitted, `retry` or `drop` in quarantine.
    """

    id: str
    lane: str
    deployment: str
    state: BatchState
    fence: int
    runs: int = 1
    deaths: int = 0
    spared_deaths: int = 0
    attempt: int = 1
    uploads: int = 0
    retries: int = 0
    lines: int = 0
    tokens: int = 0
    reserve_tokens: int = 0
    is_urgent: int = 0
    deadline_at_ms: int = 0
    run_at_ms: int = 0
    done_lines: int = 0
    moves: int = 0
    target: str = ""
    move_reason: str = ""
    names: str = ""
    file_bytes: int = 0
    opened_at_ms: int = 0
    state_at_ms: int = 0
    intent_at_ms: int = 0
    fenced_at_ms: int = 0
    submitted_at_ms: int = 0
    terminal_at_ms: int = 0
    remote_id: str = ""
    remote_status: str = ""
    input_file_id: str = ""
    output_file_id: str = ""
    error_file_id: str = ""
    file_ready: int = 0
    misses: int = 0
    looks: int = 0
    cuts: int = 0
    output_read_bytes: int = 0
    error_read_bytes: int = 0
    quota_refusals: int = 0
    unclear_creates: int = 0
    status_at_ms: int = 0
    cancelled_at_ms: int = 0
    bad_lines: str = ""
    bad_message: str = ""
    suspects: str = ""
    cut: str = ""
    parent: str = ""
    epoch: int = 0
    outcome: str = ""
    wish: str = ""
    last_error: str = ""

    @classmethod
    def fresh(cls) -> dict[str, str | int]:
        """What a record forgets when its next attempt begins: what was seen of the remote batch before."""
        names = (
            "cancelled_at_ms",
            "status_at_ms",
            "run_at_ms",
            "done_lines",
            "looks",
            "fenced_at_ms",
            "misses",
        )
        return dict.fromkeys(names, 0)

    @classmethod
    def from_record(cls, batch: str, record: Mapping[bytes, bytes]) -> "Batch":
        """Build from the Redis hash, as Redis gives it; fields of a newer release are ignored.

        Raises:
            KeyError: If the record lacks its lane, deployment, state or fence.
            ValueError: If a number is none, or the state is unknown to this release.
        """
        # hundreds of records a second are read: the record's fields, not the class's, are gone through, and only once
        state = record[b"state"]
        values: dict[str, object] = {"id": batch, "state": _STATES.get(state) or BatchState(state.decode())}
        for field, value in record.items():
            if name := _NUMBERS.get(field):
                values[name] = int(value)
            elif name := _TEXTS.get(field):
                values[name] = value.decode()
        if not values.keys() >= _NEEDED:
            raise KeyError(*sorted(_NEEDED - values.keys()))
        return cls(**values)  # type: ignore[arg-type] # the names say each field's type

    @classmethod
    def read(cls, batch: str, record: Mapping[bytes, bytes]) -> "Batch | None":
        """The same; None if there is no record, or one that only a newer release reads."""
        try:
            return cls.from_record(batch, record)
        except (KeyError, ValueError):
            return None

    @property
    def step(self) -> str:
        """Name of its step in the due sets."""
        return f"batch:{self.id}"

    @property
    def reservation(self) -> str:
        """Field of its reservation in the quota hash."""
        return f"{self.id}:{self.attempt}"


def _names(kind: type) -> dict[bytes, str]:
    fields = (field.name for field in dataclasses.fields(Batch) if field.type is kind and field.name != "id")
    return {name.encode(): name for name in fields}


_NUMBERS = _names(int)
_TEXTS = _names(str)
"""Fields of a record by their type: the name in Redis and the name of the attribute."""

_STATES = {state.value.encode(): state for state in BatchState}
_NEEDED = frozenset({"lane", "deployment", "fence"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a step commits.

    Attributes:
        state: The next state; the same one to look again later.
        after_s: Seconds until its step is due.
        fields: Fields of the record to write.
        reservation: `KEEP`, `RELEASE`, or the tokens that are really needed (it only shrinks).
        next_attempt: Whether a new attempt begins; the reservation moves to it.
        reason: Short word for logs and metrics.
        child: Id of the batch that this step made, whose record must be there still; empty for none.
    """

    state: BatchState
    after_s: float = 0.0
    fields: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
    reservation: str | int = KEEP
    next_attempt: bool = False
    reason: str = ""
    child: str = ""

    @property
    def is_heavy(self) -> bool:
        """Whether the next step belongs on the heavy queue."""
        return self.state in HEAVY


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one claim took."""

    requests: int
    tokens: int
    file_bytes: int
    stopped: str


class Debt(NamedTuple):
    """One entry of a manifest: whose reply a batch owes, bytes of its line, and when it was accepted (13 digits)."""

    custom_id: bytes
    line_bytes: int
    accepted: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one settle call did.

    Attributes:
        codes: One character per settlement: `s` settled now, `d` before, `o` open but owed by another batch,
            `u` unknown.
        waits_s: Seconds from accept to reply, for those settled now.
        margins_s: Seconds from reply to deadline, for the same ones in the same order.
    """

    codes: str = ""
    waits_s: tuple[float, ...] = ()
    margins_s: tuple[float, ...] = ()

    @property
    def settled(self) -> int:
        """How many were settled now."""
        return len(self.waits_s)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Regained:
    """One request as the input file has it: its body is canonical, without `model`.

    Attributes:
        digest: What tells this body from another; empty for the usual hash of it.
    """

    custom_id: bytes
    body: bytes
    tokens: int
    line_bytes: int
    digest: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits in one priority of a lane; `largest_at_ms`: when the largest head was accepted."""

    requests: int = 0
    tokens: int = 0
    oldest_at_ms: int = 0
    largest_tokens: int = 0
    smallest_tokens: int = 0
    largest_at_ms: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LaneLoad:
    """Counters of a lane as the scripts keep them, and what waits by priority."""

    counters: Mapping[str, int]
    waiting: Mapping[Priority, Waiting]
