"""`groupage status` and `groupage quota`: the fleet at one moment, or live."""
# ruff: noqa: T201 - what a command says is printed

import asyncio
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from groupage_worker.models import Batch
from groupage_worker.operator import show
from groupage_worker.operator.session import Session, check_deployment
from groupage_worker.scheduling.circuit import Admission
from groupage_worker.store.deployments import DeploymentState

BAR_CHARS = 20
QUIET_S = 5.0
"""Workers beat once a second; a fleet that was silent for longer has none."""

_CLEAR = "\x1b[H\x1b[J"


async def status(args: Namespace, session: Session) -> int:
    """Show the fleet once, or again and again until Ctrl-C."""
    if args.json:
        show.as_json(await look(session))
        return 0
    if args.once or not sys.stdout.isatty():
        show.lines(render(await look(session)))
        return 0
    while True:
        picture = "\n".join(render(await look(session)))
        print(f"{_CLEAR}{picture}\n\nCtrl-C ends this view, nothing else.", flush=True)
        await asyncio.sleep(args.every)


async def quota(args: Namespace, session: Session) -> int:
    """Show the quota ledger, of one deployment with every reservation."""
    settings = session.settings
    names = [check_deployment(args.name, settings)] if args.name else list(settings.deployments)
    known = await session.batches.deployments(names)
    rows = {name: deployment_row(session, name, known[name]) for name in names}
    if args.name:
        rows[args.name]["reservations"] = await session.batches.reservations(args.name)
    if args.json:
        show.as_json(rows)
        return 0
    show.lines(_deployments(rows))
    if args.name:
        held = sorted(rows[args.name]["reservations"].items())
        show.lines(["", *show.table(("batch:attempt", "tokens"), held)])
    return 0


async def look(session: Session) -> dict[str, Any]:
    """Everything there is to see."""
    now = session.clock.now_ms()
    settings = session.settings
    epochs = await session.desk.epochs(settings.lanes)
    reasons = [epoch.get("reason", "") for epoch in epochs if "frozen_at_ms" in epoch]
    batches = await session.desk.open_batches()
    beat_at_ms = int(epochs[0].get("beat", 0))
    known = await session.batches.deployments(settings.deployments)
    return {
        "cluster": settings.cluster,
        "taken_at_ms": now,
        "fleet": {
            "beat_age_s": (now - beat_at_ms) / 1000 if beat_at_ms else None,
            "is_frozen": bool(reasons),
            "frozen_reason": "".join(reasons[:1]),
            "epoch": max(int(epoch.get("number", 0)) for epoch in epochs),
        },
        "refusals": {
            worker: {"at_ms": one.at_ms, "problems": one.problems}
            for worker, one in (await session.batches.refusals.all()).items()
        },
        "lanes": {name: await _lane(session, name, now) for name in settings.lanes},
        "deployments": {name: deployment_row(session, name, known[name]) for name in settings.deployments},
        "batches": _by_state(batches, now),
    }


async def _lane(session: Session, name: str, now_ms: int) -> dict[str, Any]:
    load = await session.requests.load(name)
    oldest = min((one.oldest_at_ms for one in load.waiting.values() if one.oldest_at_ms), default=0)
    count = load.counters.get
    return {
        "open_requests": count("open_requests", 0),
        "waiting_requests": sum(one.requests for one in load.waiting.values()),
        "waiting_tokens": sum(one.tokens for one in load.waiting.values()),
        "oldest_waiting_age_s": (now_ms - oldest) / 1000 if oldest else 0.0,
        "open_bytes": count("open_bytes", 0),
        # as the ladder last predicted
        "late_waiting_requests": count("late_waiting", 0),
        "late_flying_requests": count("late_flying", 0),
        "submitted_total": count("submitted_total", 0),
        "settled": {
            key.removeprefix("settled:"): n
            for key, n in sorted(load.counters.items())
            if key.startswith("settled:")
        },
    }


def deployment_row(session: Session, name: str, state: DeploymentState) -> dict[str, Any]:
    """Quota and pauses of one deployment."""
    settings, now = session.settings, session.clock.now_ms()
    deployment = settings.deployments[name]
    known, quota_tokens = state.known, deployment.enqueued_tokens
    limit = known.limit_tokens(quota_tokens, settings.gather.quota_margin_ratio, now_ms=now)
    is_learned = known.shared.cap_tokens >= 0 and known.shared.until_ms > now
    row: dict[str, Any] = {
        "region": deployment.region,
        "quota_tokens": quota_tokens,
        "reported_quota_tokens": known.quota_tokens or None,
        "learned_limit_tokens": known.shared.cap_tokens if is_learned else None,
        "learned_until_ms": known.shared.until_ms if is_learned else None,
        "limit_tokens": limit,
        "reserved_tokens": state.reserved_tokens,
        "reserved_ratio": state.reserved_tokens / limit if limit else 1.0,
        "open_attempts": state.open_attempts,
        "state": "open",
        "reason": "",
        "until_ms": None,
        "since_ms": None,
    }
    if state.drained_at_ms:
        row |= {"state": "drained", "reason": state.drain_reason, "since_ms": state.drained_at_ms}
    elif state.paused_until_ms > now:
        row |= {"state": "paused", "reason": state.reason, "until_ms": state.paused_until_ms}
    elif state.known.admission(now) is not Admission.ALL:
        circuit = state.known.circuit
        row |= {"state": "suspect", "reason": circuit.reason, "until_ms": circuit.until_ms}
    return row


def _by_state(batches: list[Batch], now_ms: int) -> dict[str, Any]:
    """State -> how many batches and requests, and how long the oldest has been in it."""
    found: dict[str, Any] = {}
    for batch in batches:
        row = found.setdefault(batch.state.value, {"batches": 0, "requests": 0, "oldest_age_s": 0.0})
        row["batches"] += 1
        row["requests"] += batch.lines
        row["oldest_age_s"] = max(row["oldest_age_s"], (now_ms - batch.state_at_ms) / 1000)
    return found


def render(seen: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    fleet = seen["fleet"]
    beat = fleet["beat_age_s"]
    alive = "never had a worker" if beat is None else f"last sign of a worker {show.age(beat)} ago"
    if beat is not None and beat <= QUIET_S:
        alive = "workers are alive"
    frozen = (
        f"; FROZEN ({fleet['frozen_reason']}): nothing is sent until the regions were looked at"
        if fleet["is_frozen"]
        else ""
    )
    yield f"{seen['cluster']} at {show.instant(seen['taken_at_ms'])}: {alive}{frozen}"
    for worker, refusal in seen["refusals"].items():
        yield f"{worker} goes on with its earlier settings, since {show.instant(refusal['at_ms'])}:"
        yield from (f"  {problem}" for problem in refusal["problems"])
    yield ""
    yield from show.table(
        ("lane", "open", "waiting", "waiting tokens", "oldest", "submitted", "settled"),
        [
            (
                *(name, lane["open_requests"], lane["waiting_requests"], lane["waiting_tokens"]),
                *(show.age(lane["oldest_waiting_age_s"]), lane["submitted_total"]),
                ", ".join(f"{n:,} {status}" for status, n in lane["settled"].items()),
            )
            for name, lane in seen["lanes"].items()
        ],
    )
    for name, lane in seen["lanes"].items():
        if late := lane["late_waiting_requests"] + lane["late_flying_requests"]:
            yield f"lane {name}: {late:,} requests will most likely miss their deadline"
    yield ""
    yield from _deployments(seen["deployments"])
    yield ""
    yield from show.table(
        ("state", "batches", "requests", "oldest"),
        [
            (state, row["batches"], row["requests"], show.age(row["oldest_age_s"]))
            for state, row in seen["batches"].items()
        ],
    )


def _deployments(rows: dict[str, Any]) -> Iterator[str]:
    def say(row: dict[str, Any]) -> str:
        if row["state"] == "drained":
            return f"drained since {show.instant(row['since_ms'])}: {row['reason']}"
        if row["until_ms"]:
            return f"paused until {show.instant(row['until_ms'])}: {row['reason']}"
        learned, reported = row["learned_limit_tokens"], row["reported_quota_tokens"]
        if learned is not None and learned == row["limit_tokens"]:
            return f"open; refused beyond {learned:,} tokens, more is tried at {show.instant(row['learned_until_ms'])}"
        if reported is not None and reported < row["quota_tokens"]:
            return f"open; the service says its quota is {reported:,} tokens"
        return "open"

    yield from show.table(
        ("deployment", "region", "quota", "reserved", "limit", "used", "attempts", "state"),
        [
            (
                *(name, row["region"], row["quota_tokens"], row["reserved_tokens"], row["limit_tokens"]),
                f"{show.bar(row['reserved_ratio'], BAR_CHARS)} {row['reserved_ratio']:4.0%}",
                *(row["open_attempts"], say(row)),
            )
            for name, row in rows.items()
        ],
    )
