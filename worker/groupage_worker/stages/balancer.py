"""Deployments against each other: which one stalls, and which batches go from one to another.

A batch is moved by a wish in its record, with the room at the target already held; its own step cancels it, and
delivers what was done. So every promise of a cancel holds, and a crash leaves a wish that the next step sees.
"""

import dataclasses
import math

import structlog

from groupage_worker.knowledge import Knowledge, unprobed
from groupage_worker.models import Batch
from groupage_worker.routing import URGENT_RATIO
from groupage_worker.scheduling import circuit as circuits
from groupage_worker.scheduling.circuit import SILENT_MIN_S, Activity, is_stalled
from groupage_worker.scheduling.moves import TO_ONLINE, Berth, Flight, Move, Online, plan_moves, plan_rescues
from groupage_worker.stages import lessons, sight
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState, RemoteStatus

log = structlog.get_logger("balancer")

PROBE_IS_OVER = frozenset({BatchState.CLEANING, BatchState.CLOSED, BatchState.QUARANTINED})

MOVABLE = frozenset({RemoteStatus.VALIDATING.value, RemoteStatus.IN_PROGRESS.value})
"""A batch that is being finished is left alone, unless nothing moves there at all."""


class Balancer:
    """Watches the deployments of a lane and moves batches between them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self, lane: str) -> list[Batch]:
        """Look once; returns the batches that shall go elsewhere, whose steps are due now."""
        context = self._context
        seen = await sight.views(context, lane)
        if await self._watch(seen):
            # what stands still there goes elsewhere at once
            seen = await sight.views(context, lane)
        load = await context.requests.load(lane)
        line_tokens = sight.line_tokens(context, lane)
        waiting = sum(w.tokens + w.requests * line_tokens for w in load.waiting.values())
        rooms = sum(view.room_tokens for view in seen)
        is_kept = sight.keeps_reserve(context, load)
        online = await self._online(lane) if is_kept else None
        if not (rooms or online) or (waiting >= rooms and not is_kept):
            return []
        flying = await self._flying(lane, seen)
        moved: list[Batch] = []
        if is_kept:
            rescues = plan_rescues(self._berths(seen, flying, is_kept=is_kept), online)
            moved += await self._wish(rescues, flying, seen)
            seen = await sight.views(context, lane)
        if waiting < rooms:
            left = {name: batch for name, batch in flying.items() if batch not in moved}
            moves = plan_moves(self._berths(seen, left, is_kept=is_kept), waiting_tokens=waiting)
            moved += await self._wish(moves, left, seen)
        return moved

    async def _watch(self, seen: list[sight.View]) -> bool:
        """Open the circuit of a deployment that stalls; forget probes that told nothing. Whether one was found."""
        is_found = False
        now = self._context.clock.now_ms()
        silences = {v.name: self._silent_s(v, now) for v in seen if v.state.attempts}
        for view in seen:
            if view.state.known.probe:
                await self._look_at_probe(view)
            silent_s = silences.get(view.name, 0.0)
            if silent_s <= SILENT_MIN_S or view.state.known.signs.is_stalled:
                continue
            holders = await self._context.batches.moves.holders(view.state.attempts)
            activity = Activity(
                name=view.name,
                in_flight=sum(1 for batch in holders if batch.state is BatchState.SUBMITTED),
                silent_s=silent_s,
                residence_s=view.state.known.learned.residence_s,
                is_counting=view.state.known.signs.is_counting,
            )
            others = (s for name, s in silences.items() if name != view.name)
            if is_stalled(activity, min(others, default=math.inf)):
                await self._stall(view.name, now)
                is_found = True
        return is_found

    def _silent_s(self, view: sight.View, now_ms: int) -> float:
        at_ms = view.state.known.signs.changed_at_ms
        return (now_ms - at_ms) / 1000 if at_ms else 0.0

    async def _stall(self, deployment: str, now_ms: int) -> None:
        def change(known: Knowledge) -> Knowledge:
            return dataclasses.replace(
                known,
                circuit=circuits.stalled(known.circuit, now_ms=now_ms),
                signs=dataclasses.replace(known.signs, is_stalled=True),
            )

        known = await self._context.batches.known.update(deployment, change)
        lessons.note_open(self._context, deployment, known)

    async def _look_at_probe(self, view: sight.View) -> None:
        probe = view.state.known.probe
        batch = await self._context.batches.read(probe)
        if batch is None or batch.state in PROBE_IS_OVER:
            await self._context.batches.known.update(view.name, lambda known: unprobed(known, probe))

    async def _flying(self, lane: str, seen: list[sight.View]) -> dict[str, Batch]:
        """Batches of the lane at the service that no cancel was sent for, by id.

        What has begun stays where it is, so how far it has come is of no interest, except where nothing moves.
        """
        found: dict[str, Batch] = {}
        for view in seen:
            is_stalled_here = view.state.known.signs.is_stalled
            batches = await self._context.batches.moves.sent(
                view.name,
                view.state.attempts,
                is_enough=(lambda _: False) if is_stalled_here else (lambda batch: batch.run_at_ms > 0),
            )
            found |= {b.id: b for b in batches if b.lane == lane and _is_flying(b)}
        return found

    async def _online(self, lane: str) -> Online | None:
        """The lane's online deployment, if it can be asked now."""
        name, context = self._context.settings.lanes[lane].online, self._context
        if name is None:
            return None
        state = (await context.batches.deployments([name]))[name]
        if state.is_paused(context.clock.now_ms()):
            return None
        return Online(name=name, room_tokens=sight.usable(context, name, state) - state.reserved_tokens)

    def _berths(self, seen: list[sight.View], flying: dict[str, Batch], *, is_kept: bool) -> list[Berth]:
        berths = []
        for view in seen:
            is_stalled_here = view.state.known.signs.is_stalled
            flights = [
                self._flight(batch, view.state.attempts.get(batch.reservation, 0))
                for batch in flying.values()
                if batch.deployment == view.name
                and batch.reservation in view.state.attempts
                and (is_stalled_here or batch.remote_status in MOVABLE)
            ]
            flights.sort(key=lambda flight: -flight.age_s)
            berths.append(
                Berth(
                    name=view.name,
                    limit_tokens=view.usable_tokens,
                    room_tokens=view.room_tokens,
                    kept_tokens=int(URGENT_RATIO * view.usable_tokens) if is_kept else 0,
                    learned=view.state.known.learned,
                    flights=flights,
                    urgent=sorted(
                        (f for f in flights if f.deadline_in_s < math.inf and not f.run_age_s),
                        key=lambda flight: flight.deadline_in_s,
                    ),
                    is_stalled=is_stalled_here,
                )
            )
        return berths

    def _flight(self, batch: Batch, tokens: int) -> Flight:
        now = self._context.clock.now_ms()
        is_urgent = batch.is_urgent and batch.deadline_at_ms
        return Flight(
            batch=batch.id,
            tokens=tokens,
            age_s=max(0, now - batch.submitted_at_ms) / 1000,
            run_age_s=max(1, now - batch.run_at_ms) / 1000 if batch.run_at_ms else 0.0,
            progress_ratio=min(1.0, batch.done_lines / max(1, batch.lines)),
            moves=batch.moves,
            deadline_in_s=(batch.deadline_at_ms - now) / 1000 if is_urgent else math.inf,
        )

    async def _wish(self, moves: list[Move], flying: dict[str, Batch], seen: list[sight.View]) -> list[Batch]:
        context = self._context
        views = {view.name: view for view in seen}
        moved = []
        for move in moves:
            batch = flying[move.batch]
            is_wished = await context.batches.moves.wish(
                batch,
                move.target,
                tokens=views[move.source].state.attempts[batch.reservation],
                limit=context.limit_tokens(move.target)
                if move.reason == TO_ONLINE
                else views[move.target].ledger_tokens,
                reason=move.reason,
            )
            if is_wished:
                moved.append(batch)
                log.info(
                    "balancer.batch_moves",
                    batch=batch.id,
                    deployment=move.source,
                    target=move.target,
                    reason=move.reason,
                    seconds=move.gain_s,
                )
        return moved


def _is_flying(batch: Batch) -> bool:
    return batch.state is BatchState.SUBMITTED and not batch.target and not batch.cancelled_at_ms
