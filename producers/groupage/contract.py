"""What producers and workers agree on: the shapes, the words and the limits.

Shapes that come once a request and cannot be part of a cycle are kept from the garbage collector (`gc=False`): where
thousands are in memory it would look at all of them again and again.
"""

import re
from enum import StrEnum
from typing import Any

import msgspec

CUSTOM_ID_CHARS_MAX = 64
"""`<producer>:<id>` goes into `custom_id`. No limit is documented for Azure; 64 ASCII characters are safe
(azure-batch.md section 3, 2026-11-20)."""

PRODUCER_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
"""No colon and no glob character, so that a producer's name is safe in keys and in ACL patterns."""

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,62}")

LANE_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

DEADLINE_S_MAX = 14 * 86_400.0
"""Remote files expire 14 days after their creation at the earliest (azure-batch.md section 2.1, 2026-11-20)."""

DUE_SLOT_MS = 5_000
"""Width of one slot of the deadline wheel: how much later than its deadline a request may be answered."""

ORPHAN_TTL_MS = 7 * 86_400_000
"""Open requests outlive their deadline by a week, so that a fleet that was down still answers them."""


class Priority(StrEnum):
    """Which queue of its lane a request waits in."""

    URGENT = "u"
    NORMAL = "n"
    BULK = "b"

    @classmethod
    def parse(cls, word: "str | Priority") -> "Priority":
        """Read `urgent`, `normal` or `bulk`.

        Raises:
            KeyError: For any other word.
        """
        return word if isinstance(word, cls) else cls[word.upper()]


class Durability(StrEnum):
    """What an accepted request survives from the moment its ticket is there."""

    MEMORY = "memory"
    """Any crash of services and workers; a crash of Redis but for its last second, as its append-only file goes."""
    FSYNC = "fsync"
    """Power loss of the Redis server: it is on its disk. About 0.1 s, shared by all that are submitted meanwhile."""
    REPLICATED = "replicated"
    """Loss of the Redis server with its disk, by failover: a replica has it in memory."""


class Endpoint(StrEnum):
    """The API that the requests of a lane are made for."""

    CHAT = "/chat/completions"
    RESPONSES = "/v1/responses"


class Status(StrEnum):
    """How a request ended. Exactly one of them, once."""

    SUCCEEDED = "succeeded"
    """The service answered it; `body` is its answer."""
    FAILED = "failed"
    """The service refused it, or gave no usable answer in the attempts allowed; `error` says why."""
    EXPIRED = "expired"
    """Its deadline passed first."""
    CANCELLED = "cancelled"
    """Its producer took it back."""


class State(StrEnum):
    """Where a request is, as `status` tells."""

    WAITING = "waiting"
    """In its lane, not yet in a batch."""
    BATCHED = "batched"
    """In a batch: being uploaded, at the service, or on its way back."""
    SETTLED = "settled"
    """Its reply is there."""


class LaneInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What workers announce of a lane; producers check requests against it at the door."""

    endpoint: Endpoint
    request_bytes_max: int = 1_000_000
    tokens_max: int = 2**53
    """Quota of the largest deployment of the lane: a request above it can never be sent."""
    deadline_s: float = 172_800.0
    reply_ttl_s: float = 172_800.0
    packings: tuple[str, ...] = ()
    """Ways of compressing bodies that its workers open."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens as the service counted them; `None` where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class ReplyError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request did not succeed.

    Attributes:
        code: The service's code (`content_filter`, `invalid_request`, ...) or one of ours: `deadline_exceeded`,
            `cancelled_by_producer`, `dropped_by_operator`, `exceeds_quota`, `no_result`, `unreadable_body`,
            `unreadable_result`.
        message: For people.
        details: The service's whole error object where there is one, content filter results included.
    """

    code: str
    message: str
    details: Any = None


class WireReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The JSON part of a reply key. `body` stays raw bytes: nobody parses it before the consumer does."""

    status_code: int | None = None
    usage: Usage | None = None
    error: ReplyError | None = None
    cost_usd: float | None = None
    online_cost_usd: float | None = None
    batch: str | None = None
    deployment: str | None = None
    region: str | None = None
    submitted_at_ms: int | None = None
    finished_at_ms: int | None = None
    batch_attempt: int = 1
    body: msgspec.Raw = msgspec.Raw(b"null")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a `submit_many`; the fields are those of `Producer.submit`."""

    body: "dict[str, Any] | bytes | str"
    id: str | None = None
    lane: str | None = None
    priority: str = "normal"
    deadline_s: float | None = None
    tokens: int | None = None


class Ticket(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """Proof that a request was accepted, now or before.

    Attributes:
        is_new: False when the same id with the same body was known already.
        is_settled: True when its reply is there already.
        durability: What was reached before this ticket was made.
        client: Process that hears of its reply at once; others ask for it when they wait.
        trace: Context of its submit (`traceparent`), where that is traced.
    """

    id: str
    lane: str
    is_new: bool = True
    is_settled: bool = False
    durability: Durability = Durability.MEMORY
    client: str = ""
    trace: str = ""

    def __repr__(self) -> str:
        shown = ("id", "lane", "is_new", "is_settled", "durability")
        return f"Ticket({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __eq__(self, other: object) -> bool:
        return self._said == other._said if isinstance(other, Ticket) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._said)

    @property
    def _said(self) -> tuple[str, str, bool, bool, Durability]:
        """All but client and trace, which are about who asked, not about the request."""
        return self.id, self.lane, self.is_new, self.is_settled, self.durability


class RequestStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `status`: instants in Unix ms, `None` where they do not apply."""

    id: str
    lane: str
    state: State
    attempts: int
    accepted_at_ms: int
    deadline_at_ms: int | None = None
    settled_at_ms: int | None = None
    reply_status: Status | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The one terminal reply of a request.

    Attributes:
        status: `succeeded`, `failed`, `expired` or `cancelled`.
        status_code: HTTP status of the line in the service's output, where there was one.
        body: The service's response body, decoded; `None` where there was none.
        usage: Tokens as the service counted them.
        error: Why it did not succeed.
        cost_usd: Batch price of its tokens, where prices are configured; `online_cost_usd` is what the online
            endpoint would have charged.
        attempts: Attempts that failed before this reply.
        batch_attempt: Which attempt of its batch it came from.
        accepted_at_ms: Unix ms when the request was accepted; `submitted_at_ms` when its batch was created at
            the service, `finished_at_ms` when that ended, `settled_at_ms` when this reply was written.
    """

    id: str
    lane: str
    status: Status
    status_code: int | None
    body: Any
    usage: Usage | None
    error: ReplyError | None
    cost_usd: float | None
    online_cost_usd: float | None
    batch: str | None
    deployment: str | None
    region: str | None
    attempts: int
    accepted_at_ms: int
    submitted_at_ms: int | None
    finished_at_ms: int | None
    settled_at_ms: int
    batch_attempt: int = 1

    @property
    def ok(self) -> bool:
        """Whether the service answered."""
        return self.status is Status.SUCCEEDED
