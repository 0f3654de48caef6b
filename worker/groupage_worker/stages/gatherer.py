"""Lanes → batches: opens a batch where a deployment has room, and fills it.

Record first, then act: the record with its reservation exists before a request is claimed into it, so a crash
leaves a batch in `claiming` whose next step seals what it has.
"""

import functools
import math
import random

import structlog

from groupage.contract import Priority, ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker import knowledge
from groupage_worker.jsonl import line_overhead
from groupage_worker.models import RELEASE, Batch, LaneLoad, Move, new_batch_id
from groupage_worker.results import error_reply
from groupage_worker.routing import LaneDemand, Pull, plan_pulls, share_by_priority
from groupage_worker.stages import sight
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("gatherer")

URGENT_NOTE_S = 60.0
"""How often it is noted that urgent requests wait."""


class Gatherer:
    """Opens and fills batches."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self, lane: str) -> list[Batch]:
        """Look at one lane and open the batches it is time for; returns them."""
        context = self._context
        load = await context.requests.load(lane)
        line_tokens = sight.line_tokens(context, lane)
        demand = self._demand(load, line_tokens)
        if demand.requests == 0:
            return []
        if demand.urgent_tokens and self._age_s(load.counters.get("urgent_at_ms", 1)) > URGENT_NOTE_S:
            await context.requests.note_urgent(lane)
        seen = await sight.views(context, lane)
        largest = max(seen, key=lambda view: view.usable_tokens)
        if demand.largest_tokens > largest.usable_tokens:
            await self._refuse_oversized(lane, largest, line_tokens)
        gather = context.settings.gather
        pulls = plan_pulls(
            demand,
            sight.supplies(context, lane, seen),
            slices=gather.slices,
            linger_s=sight.linger_of(context, lane, seen),
            lines_max=gather.lines_max,
            tokens_max=gather.file_bytes_max // sight.BYTES_PER_TOKEN,
            draw=random.random(),
        )
        limits = {view.name: view.ledger_tokens for view in seen}
        opened = [await self._open(lane, pull, limits[pull.deployment]) for pull in pulls]
        return [batch for batch in opened if batch]

    def _demand(self, load: LaneLoad, line_tokens: int) -> LaneDemand:
        """What waits, counted as lines of a file."""
        waiting = [w for w in load.waiting.values() if w.requests and w.smallest_tokens]
        urgent = load.waiting[Priority.URGENT]
        has_urgent = urgent.requests > 0 and urgent.smallest_tokens > 0
        largest = max(waiting, key=lambda w: w.largest_tokens, default=urgent)
        return LaneDemand(
            requests=sum(w.requests for w in waiting),
            tokens=sum(w.tokens + w.requests * line_tokens for w in waiting),
            oldest_wait_s=max((self._age_s(w.oldest_at_ms) for w in waiting), default=0.0),
            smallest_tokens=min((w.smallest_tokens for w in waiting), default=0) + line_tokens,
            largest_tokens=largest.largest_tokens + line_tokens,
            urgent_tokens=urgent.tokens + urgent.requests * line_tokens if has_urgent else 0,
            urgent_wait_s=self._age_s(urgent.oldest_at_ms) if has_urgent else 0.0,
            urgent_smallest_tokens=urgent.smallest_tokens + line_tokens if has_urgent else 0,
            largest_wait_s=self._age_s(largest.largest_at_ms),
            keeps_reserve=sight.keeps_reserve(self._context, load),
        )

    def _age_s(self, at_ms: int) -> float:
        return max(0, self._context.clock.now_ms() - at_ms) / 1000 if at_ms else 0.0

    async def _open(self, lane: str, pull: Pull, limit: int) -> Batch | None:
        context = self._context
        now = context.clock.now_ms()
        batch = Batch(
            id=new_batch_id(now),
            lane=lane,
            deployment=pull.deployment,
            state=BatchState.CLAIMING,
            fence=0,
            epoch=context.epochs.number(lane),
            tokens=pull.tokens,
            is_urgent=int(pull.is_urgent),
        )
        if not await context.batches.open(batch, tokens=pull.reserve_tokens, limit=limit):
            return None
        if pull.reason == "probe":
            change = functools.partial(knowledge.probed, now_ms=now, batch=batch.id)
            await context.batches.known.update(pull.deployment, change)
        log.debug(
            "gatherer.batch_opened", batch=batch.id, lane=lane, deployment=pull.deployment, reason=pull.reason
        )
        context.metrics.batch_opened(lane, pull.deployment, pull.reason)
        return batch

    async def _refuse_oversized(self, lane: str, largest: sight.View, line_tokens: int) -> None:
        """Answer requests that no deployment of the lane can ever hold."""
        context = self._context
        settlements = [
            Settlement.of(
                custom_id=name.decode(),
                status=Status.FAILED,
                reply=error_reply(
                    ReplyError(
                        code="exceeds_quota",
                        message=f"tokens: at most {largest.usable_tokens}, the usable quota of {largest.name}, the "
                        f"largest deployment of lane {lane}; estimated {tokens + line_tokens} with its line",
                    ),
                ),
            )
            for name, tokens in await context.admission.oversized(
                lane, tokens_max=largest.usable_tokens - line_tokens
            )
        ]
        done = await context.requests.settle(
            lane, None, settlements, reply_ttl_s=context.settings.lanes[lane].reply_ttl_s
        )
        context.metrics.settled(lane, "", Status.FAILED.value, done.settled)

    async def step(self, batch: Batch) -> Move:
        """Claim until the reservation is filled, then seal. A step that was cut short seals what it has."""
        context = self._context
        if not batch.intent_at_ms and not await self._was_left(batch):
            # the manifest comes before the commit, and claims after it: whoever slept through a loss claims nothing
            await context.requests.open(batch.lane, batch.id)
            return Move(
                state=BatchState.CLAIMING, fields={"intent_at_ms": context.clock.now_ms()}, reason="opened"
            )
        if batch.runs == 1:
            await (self._take_named(batch) if batch.names else self._fill(batch))
        lines, tokens, _bytes = await context.requests.seal(batch.lane, batch.id)
        if lines == 0:
            await context.requests.forget(batch.lane, batch.id)
            return Move(
                state=BatchState.CLOSED, reservation=RELEASE, fields={"outcome": "empty"}, reason="empty"
            )
        context.metrics.claimed(batch.lane, lines, tokens)
        context.metrics.batch_sealed(batch.lane, lines=lines)
        is_online = context.deployment(batch).kind == "online"
        deadline = await context.requests.earliest_deadline(batch.lane, batch.id)
        return Move(
            state=BatchState.ANSWERING if is_online else BatchState.SEALED,
            fields={"lines": lines, "tokens": tokens, "deadline_at_ms": deadline, "names": ""},
            # before reserve_tokens was written, as much was reserved as was to be claimed
            reservation=math.ceil((batch.reserve_tokens or batch.tokens) * tokens / batch.tokens),
            reason="sealed",
        )

    async def _was_left(self, batch: Batch) -> bool:
        """Whether a worker of a release that wrote no intent here died while it took requests."""
        return batch.runs > 1 and bool(await self._context.requests.owed(batch.lane, batch.id))

    async def _take_named(self, batch: Batch) -> None:
        """Claim the requests that the batch was opened for."""
        context, endpoint = self._context, self._context.lane(batch).endpoint
        url, model = context.client(batch).line_url(endpoint), context.deployment(batch).model
        await context.named.claim(
            batch.lane,
            batch.id,
            batch.names.split(),
            line_overhead=line_overhead(url=url, model=model),
            line_tokens=sight.line_tokens(context, batch.lane),
        )

    async def _fill(self, batch: Batch) -> None:
        context = self._context
        gather, lane = context.settings.gather, context.lane(batch)
        deployment = context.deployment(batch)
        overhead = line_overhead(url=context.client(batch).line_url(lane.endpoint), model=deployment.model)
        line_tokens = sight.line_tokens(context, batch.lane)
        load = await context.requests.load(batch.lane)
        waiting = {p: w.tokens + w.requests * line_tokens for p, w in load.waiting.items() if w.requests}
        if not batch.is_urgent:
            # they have batches of their own, which may be filled at this moment
            waiting.pop(Priority.URGENT, None)
        tokens, lines, size = batch.tokens, gather.lines_max, gather.file_bytes_max
        # the second round offers what lower priorities left of their share to whoever still waits
        last = (Priority.NORMAL, Priority.BULK, Priority.URGENT)
        rounds = [*share_by_priority(tokens, waiting), *((p, tokens) for p in last)]
        if batch.is_urgent:
            rounds = [(Priority.URGENT, tokens)]
        for priority, share in rounds:
            if priority is Priority.URGENT and tokens < batch.tokens:
                # they are not to lie in a slice for what its last tokens are too few for
                continue
            left = min(share, tokens)
            while left > 0 and lines > 0 and size > overhead:
                claim = await context.requests.claim(
                    batch.lane,
                    priority,
                    batch.id,
                    tokens=left,
                    requests=min(gather.page, lines),
                    file_bytes=size,
                    turn_tokens=gather.turn_tokens,
                    line_overhead=overhead,
                    line_tokens=line_tokens,
                    weights=lane.weights,
                )
                left -= claim.tokens
                tokens -= claim.tokens
                lines -= claim.requests
                size -= claim.file_bytes
                if claim.stopped != "page":
                    break
