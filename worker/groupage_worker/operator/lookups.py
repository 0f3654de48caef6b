"""`groupage batches`, `batch`, `requests`, `request` and `dead list`: looking, never changing."""

import dataclasses
import itertools
from argparse import Namespace
from typing import Any

from groupage import checks, codec
from groupage.compression import CompressionError, unpack
from groupage.contract import RequestStatus
from groupage.encryption import is_sealed
from groupage.errors import UnknownRequest
from groupage_worker.models import Batch
from groupage_worker.operator import show
from groupage_worker.operator.errors import Mistake
from groupage_worker.operator.session import Session, check_deployment, lane_of
from groupage_worker.states import BatchState
from groupage_worker.store.history import read_history


async def batches(args: Namespace, session: Session) -> int:
    """List batches."""
    found = (
        await session.desk.closed_batches(most=args.limit)
        if args.closed
        else await session.desk.open_batches()
    )
    wanted = [
        batch
        for batch in found
        if (args.state is None or batch.state.value == args.state)
        and (args.lane is None or batch.lane == args.lane)
        and (args.deployment is None or batch.deployment == args.deployment)
    ]
    if not wanted:
        _check_filters(args, session)
    _print_batches(args, session, wanted[: args.limit], left=len(wanted) - args.limit)
    return 0


def _check_filters(args: Namespace, session: Session) -> None:
    """Tell a name that is misspelt from one that has no batch; batches may still be of names that left the settings.

    Raises:
        Mistake: If the settings know no such lane or deployment.
    """
    if args.lane is not None:
        lane_of(args, session.settings)
    if args.deployment is not None:
        check_deployment(args.deployment, session.settings)


async def dead(args: Namespace, session: Session) -> int:
    """List quarantined batches."""
    _print_batches(args, session, await quarantined(session), left=0)
    return 0


async def quarantined(session: Session) -> list[Batch]:
    """Batches that wait for a person."""
    return [batch for batch in await session.desk.open_batches() if batch.state is BatchState.QUARANTINED]


def _print_batches(args: Namespace, session: Session, found: list[Batch], *, left: int) -> None:
    if args.json:
        show.as_json([as_dict(batch) for batch in found])
        return
    now = session.clock.now_ms()
    rows = [
        (
            *(
                batch.id,
                batch.lane,
                batch.deployment,
                batch.state.value,
                batch.attempt,
                batch.lines,
                batch.tokens,
            ),
            *(show.age((now - batch.state_at_ms) / 1000), batch.remote_status, batch.last_error),
        )
        for batch in found
    ]
    head = ("batch", "lane", "deployment", "state", "attempt", "requests", "tokens", "for", "remote", "error")
    show.lines(show.table(head, rows))
    if left > 0:
        show.lines([f"... and {left:,} more; --limit shows them"])


def as_dict(batch: Batch) -> dict[str, Any]:
    """A record as JSON has it; nothing in it comes from a prompt but a refusal's own words, which stay out."""
    found = dataclasses.asdict(batch)
    for name in ("bad_message", "suspects", "cut", "bad_lines"):
        found.pop(name, None)
    return found


async def read_batch(session: Session, name: str) -> Batch:
    """The record of a batch.

    Raises:
        Mistake: If there is none.
    """
    batch = await session.batches.read(name)
    if batch is None:
        raise Mistake(
            f"there is no batch {name}; `groupage batches` lists those that are open, --closed those that were"
        )
    return batch


async def batch(args: Namespace, session: Session) -> int:
    """Show one batch with its whole history."""
    found = await read_batch(session, args.id)
    events = await read_history(session.control, found.id)
    owed = await session.desk.owed(found)
    if args.json:
        past = [
            {"at_ms": e.at_ms, "state": e.state, "attempt": e.attempt, "reason": e.reason} for e in events
        ]
        show.as_json({**as_dict(found), "owed_requests": owed, "history": past})
        return 0
    record = as_dict(found)
    facts = [
        (name, show.instant(value) if name.endswith("_at_ms") else value)
        for name, value in record.items()
        if value not in ("", 0) or name in ("id", "state")
    ]
    width = max(len(name) for name, _ in facts)
    show.lines(
        [
            *(f"{name.ljust(width)}  {value}" for name, value in facts),
            f"{'owes'.ljust(width)}  {owed:,} replies",
        ]
    )
    rows = [(show.instant(found.opened_at_ms), found.parent and "split off", 1, found.parent or "opened")]
    rows += [(show.instant(event.at_ms), event.state, event.attempt, event.reason) for event in events]
    show.lines(["", *show.table(("when", "state", "attempt", "why"), rows)])
    return 0


async def requests(args: Namespace, session: Session) -> int:
    """List open requests of a lane, without bodies."""
    lane = lane_of(args, session.settings)
    found = []
    async for one in session.desk.requests(lane, args.producer):
        if args.state is None or args.state == _state(one.header):
            found.append(one)
            if len(found) > args.limit:
                break
    rows = [
        {"producer": one.producer, "id": one.id, **_header(one.header)}
        for one in itertools.islice(found, args.limit)
    ]
    if args.json:
        show.as_json(rows)
        return 0
    now = session.clock.now_ms()
    cells = [
        (
            *(row["producer"], row["id"], row["state"], row["priority"], row["tokens"], row["body_bytes"]),
            *(row["attempts"], show.age((now - row["accepted_at_ms"]) / 1000)),
            show.instant(row["deadline_at_ms"]),
        )
        for row in rows
    ]
    head = ("producer", "id", "state", "priority", "tokens", "bytes", "attempts", "age", "deadline")
    show.lines(show.table(head, cells))
    if len(found) > args.limit:
        show.lines([f"... and more; --limit shows them, {args.limit:,} are shown"])
    return 0


def _state(header: codec.Header) -> str:
    return "batched" if header.is_claimed else "waiting"


def _header(header: codec.Header) -> dict[str, Any]:
    return {
        "state": _state(header),
        "priority": header.priority.name.lower(),
        "tokens": header.tokens,
        "body_bytes": header.body_bytes,
        "attempts": header.attempts,
        "accepted_at_ms": header.accepted_at_ms,
        "deadline_at_ms": header.deadline_at_ms,
    }


async def request(args: Namespace, session: Session) -> int:
    """Show one request: where it is, and its body only if asked for and allowed."""
    lane, producer = lane_of(args, session.settings), args.producer
    checks.check_id(args.id, producer)
    if args.body and not session.settings.operator.show_bodies:
        raise Mistake("--body: the settings do not allow it; operator.show_bodies must be true")
    found: dict[str, Any] = {"id": args.id, "producer": producer, "lane": lane}
    value = await session.desk.request(lane, producer, args.id)
    if value is None:
        found |= _settled(await session.desk.status(lane, producer, args.id))
    else:
        found |= _header(codec.unpack_header(value))
        holder = await session.desk.holder(lane, producer, args.id)
        found["batch"] = holder.id if holder else None
        if args.body:
            body = codec.body_of(value)
            if is_sealed(body):
                raise Mistake("--body: it is encrypted, and only its producer and the workers have the keys")
            try:
                body = unpack(body, bytes_max=found["body_bytes"])
            except CompressionError as error:
                raise Mistake(f"--body: {error}") from None
            found["body"] = body.decode("utf-8", "replace")
    if args.json:
        show.as_json(found)
        return 0
    width = max(map(len, found))
    show.lines(
        f"{name.ljust(width)}  {show.instant(value) if name.endswith('_at_ms') and value else value}"
        for name, value in found.items()
    )
    return 0


def _settled(status: RequestStatus) -> dict[str, Any]:
    """What is known of a request that has its reply.

    Raises:
        UnknownRequest: If it is open again by now; the next look shows it.
    """
    if status.reply_status is None:
        raise UnknownRequest(status.id, status.lane)
    return {
        "state": status.state.value,
        "reply_status": status.reply_status.value,
        "attempts": status.attempts,
        "accepted_at_ms": status.accepted_at_ms,
        "settled_at_ms": status.settled_at_ms,
    }
