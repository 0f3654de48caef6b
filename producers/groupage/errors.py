"""Everything that can go wrong for a backend service, as one tree.

GroupageError
 ├── InvalidRequest      fix the call: `field`, `limit` and `value` say what is wrong
 ├── UnknownLane         fix the name, or start a worker that serves the lane
 ├── IdConflict          the id is taken by a request with another body
 ├── UnknownRequest      there is neither an open request nor a reply of this id
 ├── Overloaded          not accepted; try again after `retry_after_s`
 ├── Uncertain           the answer got lost; repeat the call with the same ids
 ├── Unavailable         nothing was accepted: Redis refused or cannot be reached
 ├── DurabilityMissing   nothing was accepted: the server does not know the level of durability
 ├── ReplyTimeout        no reply within the time given; the request goes on
 └── SubmitErrors        some requests of a `submit_many` were refused; `tickets` holds the others

Nothing is lost by any of them: a call that raises has either accepted nothing or may be repeated with the
same ids without a second request coming of it.
"""

from collections.abc import Mapping


class GroupageError(Exception):
    """Base of every error that this package raises on purpose."""

    retriable = False


class InvalidRequest(GroupageError, ValueError):
    """A request breaks a rule that it can never meet unchanged.

    Attributes:
        field: Path of the offending field, such as `messages[3].content`.
        limit: The rule, in words or as a number.
        value: The offending value, shortened; never a prompt.
    """

    def __init__(self, field: str, limit: object, value: object) -> None:
        self.field, self.limit, self.value = field, limit, value
        super().__init__(f"{field}: {value!r} breaks the limit: {limit}")


class UnknownLane(GroupageError):
    """No worker has ever announced this lane on this Redis."""

    retriable = True

    def __init__(self, lane: str, known: tuple[str, ...]) -> None:
        self.lane, self.known = lane, known
        have = ", ".join(known) if known else "none: start a worker first"
        super().__init__(f"lane {lane!r} is unknown; announced lanes: {have}")


class IdConflict(GroupageError):
    """An id was submitted before with another body; the first one stands."""

    def __init__(self, id: str, lane: str) -> None:  # noqa: A002 - the word every caller uses
        self.id, self.lane = id, lane
        super().__init__(f"id {id!r} in lane {lane!r} is taken by a request with another body")


class UnknownRequest(GroupageError):
    """No open request and no reply has this id: never submitted, or its reply has passed its time to live."""

    def __init__(self, id: str, lane: str) -> None:  # noqa: A002 - as above
        self.id, self.lane = id, lane
        super().__init__(f"no request or reply {id!r} in lane {lane!r}")


class Overloaded(GroupageError):
    """The lane, the producer's share of it, or Redis is full; nothing was accepted.

    Attributes:
        limit_name: Which limit: `open_requests`, `open_bytes`, `open_tokens` of the lane, `producer_requests`,
            `producer_bytes`, `producer_tokens`, `producer_reply_bytes` of this producer in it, or `redis_memory`.
        value: What it would have been with this request.
        limit: Its bound.
        retry_after_s: Seconds after which trying again makes sense.
    """

    retriable = True

    def __init__(self, limit_name: str, value: int, limit: int, *, retry_after_s: float) -> None:
        self.limit_name, self.value, self.limit = limit_name, value, limit
        self.retry_after_s = retry_after_s
        super().__init__(
            f"{limit_name} would be {value}, limit {limit}; try again in {retry_after_s:g} s",
        )


class DurabilityMissing(GroupageError):
    """The server cannot give the level of durability that was asked for; nothing was accepted.

    Attributes:
        level: The level.
        reason: What the server says, or lacks.
    """

    def __init__(self, level: str, reason: str) -> None:
        self.level, self.reason = level, reason
        super().__init__(f"Redis cannot accept at the level {level!r}: {reason}")


class Uncertain(GroupageError):
    """The request may be accepted; repeat the call with the same id, no second request comes of it.

    The connection broke after the call was sent, or the level of durability was not reached in time.

    Attributes:
        id: The request's id, so that a call can be repeated even if the id was made for it.
    """

    retriable = True

    def __init__(self, message: str, *, id: str | None = None) -> None:  # noqa: A002 - as above
        self.id = id
        super().__init__(message)


class Unavailable(GroupageError):
    """Redis cannot be reached or refuses to write; nothing was accepted."""

    retriable = True


class ReplyTimeout(GroupageError, TimeoutError):
    """No reply arrived in the time given; the request itself goes on and may be asked for again."""

    retriable = True

    def __init__(self, id: str, timeout_s: float) -> None:  # noqa: A002 - as above
        self.id, self.timeout_s = id, timeout_s
        super().__init__(f"no reply to {id!r} within {timeout_s:g} s")


class SubmitErrors(GroupageError):
    """Some requests of one `submit_many` were refused.

    Attributes:
        tickets: Index in the call -> ticket, for what was accepted.
        errors: Index in the call -> error, for what was not.
    """

    def __init__(self, tickets: Mapping[int, object], errors: Mapping[int, GroupageError]) -> None:
        self.tickets, self.errors = dict(tickets), dict(errors)
        index, first = next(iter(self.errors.items()))
        super().__init__(
            f"{len(self.errors)} of {len(self.errors) + len(self.tickets)} requests refused; "
            f"the first, at index {index}: {first}",
        )
