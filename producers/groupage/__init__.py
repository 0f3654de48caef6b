"""groupage: submit single LLM calls to a fleet that packs them into Azure OpenAI batches, and get every reply.

Example:
    async with groupage.Producer("redis://localhost/0", name="catalog", lane="gpt-4o") as producer:
        ticket = await producer.submit({"messages": [{"role": "user", "content": "Hello"}]})
        reply = await producer.reply(ticket)
"""

import typing as _typing

from groupage._version import __version__
from groupage.contract import (
    Durability,
    LaneInfo,
    Priority,
    Reply,
    ReplyError,
    Request,
    RequestStatus,
    State,
    Status,
    Ticket,
    Usage,
)
from groupage.errors import (
    DurabilityMissing,
    GroupageError,
    IdConflict,
    InvalidRequest,
    Overloaded,
    ReplyTimeout,
    SubmitErrors,
    Unavailable,
    Uncertain,
    UnknownLane,
    UnknownRequest,
)

if _typing.TYPE_CHECKING:
    from groupage.client import Producer

__all__ = [
    "Durability",
    "DurabilityMissing",
    "GroupageError",
    "IdConflict",
    "InvalidRequest",
    "LaneInfo",
    "Overloaded",
    "Priority",
    "Producer",
    "Reply",
    "ReplyError",
    "ReplyTimeout",
    "Request",
    "RequestStatus",
    "State",
    "Status",
    "SubmitErrors",
    "Ticket",
    "Unavailable",
    "Uncertain",
    "UnknownLane",
    "UnknownRequest",
    "Usage",
    "__version__",
]


def __getattr__(name: str) -> object:
    """`Producer`, on its first use: redis-py with all its parts takes three quarters of the import."""
    if name != "Producer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from groupage.client import Producer  # noqa: PLC0415 - this is the point

    globals()[name] = Producer
    return Producer
