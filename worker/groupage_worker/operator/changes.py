"""`groupage drain`, `resume`, `cancel`, `dead retry` and `dead drop`: each names what it changes before it does."""
# ruff: noqa: T201 - what a command says is printed

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from groupage import checks
from groupage.contract import Status
from groupage_worker.models import CANCEL, DROP, RETRY, Batch
from groupage_worker.operator import show
from groupage_worker.operator.errors import Mistake
from groupage_worker.operator.lookups import quarantined, read_batch
from groupage_worker.operator.session import Session, check_deployment, lane_of
from groupage_worker.states import BatchState

REASON_CHARS_MAX = 200


def confirm(args: Namespace, changes: Sequence[str]) -> None:
    """Name what will change, and ask unless --yes was given.

    Raises:
        Mistake: If the answer is no, or there is nobody to ask.
    """
    print("\n".join(changes), file=sys.stderr)
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise Mistake("nothing was changed: there is no terminal to ask at, so say --yes")
    print("Do it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Mistake("nothing was changed")


def _done(args: Namespace, result: dict[str, Any], text: str) -> int:
    if args.json:
        show.as_json(result)
    else:
        print(text)
    return 0


async def drain(args: Namespace, session: Session) -> int:
    """Keep new batches off a deployment."""
    name = check_deployment(args.name, session.settings)
    reason = args.reason.strip()
    if not reason or len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        raise Mistake(f"--reason: 1 to {REASON_CHARS_MAX} printable characters, so that others know why")
    lanes = [lane for lane, one in session.settings.lanes.items() if name in one.deployments]
    state = (await session.batches.deployments([name]))[name]
    changes = [
        f"Deployment {name} gets no new batch until `groupage resume {name}`.",
        f"Its {state.open_attempts} open attempts go on; what is not created at the service goes back to its lane.",
    ]
    others = await session.batches.deployments(session.settings.deployments)
    changes += [
        f"Lane {lane} then has no deployment left: its requests wait."
        for lane in lanes
        if all(one == name or others[one].drained_at_ms for one in session.settings.lanes[lane].deployments)
    ]
    confirm(args, changes)
    await session.desk.drain(name, reason)
    return _done(args, {"deployment": name, "state": "drained", "reason": reason}, f"{name} is drained")


async def resume(args: Namespace, session: Session) -> int:
    """End a drain and whatever pause there is."""
    name = check_deployment(args.name, session.settings)
    state = (await session.batches.deployments([name]))[name]
    now = session.clock.now_ms()
    if not state.is_paused(now):
        return _done(
            args, {"deployment": name, "state": "open", "changed": False}, f"{name} was open already"
        )
    changes = []
    if state.drained_at_ms:
        changes.append(
            f"Ends the drain of {name} since {show.instant(state.drained_at_ms)}: {state.drain_reason}."
        )
    if state.paused_until_ms > now:
        changes.append(
            f"Ends the pause of {name} until {show.instant(state.paused_until_ms)}: {state.reason}."
        )
    confirm(args, [*changes, f"{name} gets new batches at once."])
    await session.desk.resume(name)
    return _done(args, {"deployment": name, "state": "open", "changed": True}, f"{name} is open")


async def cancel(args: Namespace, session: Session) -> int:
    """Cancel requests, or the remote batch of one batch."""
    if (args.batch is None) == (not args.ids):
        raise Mistake("name either requests (ID ... with --producer and --lane) or one batch (--batch ID)")
    return await (_cancel_batch(args, session) if args.batch else _cancel_requests(args, session))


async def _cancel_batch(args: Namespace, session: Session) -> int:
    batch = await read_batch(session, args.batch)
    remote = batch.remote_id or "(none)"
    confirm(
        args,
        [
            f"Cancels the remote batch {remote} of {batch.id} at {batch.deployment}: {batch.lines:,} requests.",
            f"What it has answered is delivered and billed; the rest goes back to lane {batch.lane} and is sent again.",
        ],
    )
    await _ask(session, batch, CANCEL, BatchState.SUBMITTED)
    return _done(args, {"batch": batch.id, "wish": CANCEL}, f"the fleet cancels {batch.id}")


async def _ask(session: Session, batch: Batch, wish: str, state: BatchState) -> None:
    """Have the fleet do it.

    Raises:
        Mistake: If the batch is in another state by now.
    """
    found = await session.desk.ask(batch, wish, state=state)
    if found != state.value:
        raise Mistake(
            f"batch {batch.id} is {found or 'gone'}; this can be done only while it is {state.value}"
        )


async def _cancel_requests(args: Namespace, session: Session) -> int:
    if args.producer is None:
        raise Mistake("--producer: name whose requests they are")
    lane, producer = lane_of(args, session.settings), args.producer
    ids = [checks.check_id(one, producer) for one in dict.fromkeys(args.ids)]
    listed = ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
    confirm(
        args,
        [
            f"Ends {len(ids)} requests of {producer} in lane {lane} as cancelled: {listed}.",
            "What the service does with them meanwhile is billed.",
        ],
    )
    ttl_s = session.settings.lanes[lane].reply_ttl_s
    found = {one: await session.desk.cancel(lane, producer, one, reply_ttl_s=ttl_s) for one in ids}
    n = sum(status.reply_status is Status.CANCELLED for status in found.values())
    result = {"requests": {one: status.reply_status for one, status in found.items()}}
    return _done(args, result, f"{n} are cancelled; {len(ids) - n} had another reply already")


async def dead_retry(args: Namespace, session: Session) -> int:
    """Give the requests of quarantined batches back to their lanes."""
    return await _decide(args, session, RETRY, "go back to their lane and are sent again")


async def dead_drop(args: Namespace, session: Session) -> int:
    """Answer the requests of quarantined batches as failed."""
    return await _decide(args, session, DROP, "are answered as failed (dropped_by_operator)")


async def _decide(args: Namespace, session: Session, wish: str, fate: str) -> int:
    if args.all == bool(args.ids):
        raise Mistake("name the batches, or --all; `groupage dead list` shows them")
    found = await quarantined(session)
    chosen = found if args.all else [await read_batch(session, one) for one in dict.fromkeys(args.ids)]
    for batch in chosen:
        if batch.state is not BatchState.QUARANTINED:
            raise Mistake(f"batch {batch.id} is {batch.state.value}, not quarantined")
    if not chosen:
        return _done(args, {"batches": [], "wish": wish}, "no batch is quarantined")
    confirm(
        args,
        [
            f"The {await session.desk.owed(batch):,} requests of {batch.id} ({batch.deployment}, {batch.last_error}) {fate}."
            for batch in chosen
        ],
    )
    for batch in chosen:
        await _ask(session, batch, wish, BatchState.QUARANTINED)
    return _done(
        args, {"batches": [b.id for b in chosen], "wish": wish}, f"{len(chosen)} batches: the fleet does it"
    )
