"""Lanes → batches: opens a batch where a deployment has room, and fills it.

Record first, then act: the record with its reservation exists before a request is claimed into it, so a crash
leaves a batch in `claiming` whose next step seals what it has.
"""

import structlog

from groupage.contract import Priority, ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker.jsonl import line_overhead
from groupage_worker.models import RELEASE, Batch, LaneLoad, Move, new_batch_id
from groupage_worker.results import error_reply
from groupage_worker.routing import LaneDemand, Pull, Supply, plan_pulls, share_by_priority
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("gatherer")


class Gatherer:
    """Opens and fills batches."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self, lane: str) -> list[Batch]:
        """Look at one lane and open the batches it is time for; returns them."""
        context = self._context
        load = await context.requests.load(lane)
        demand = self._demand(load)
        if demand.requests == 0:
            return []
        names = context.settings.lanes[lane].deployments
        largest = max(context.limit_tokens(name) for name in names)
        if demand.largest_tokens > largest:
            await self._refuse_oversized(lane, largest)
        known = await context.batches.deployments(names)
        now = context.clock.now_ms()
        supplies = [
            Supply(
                name=name,
                limit_tokens=context.limit_tokens(name),
                reserved_tokens=known[name].reserved_tokens,
                is_paused=known[name].is_paused(now),
            )
            for name in names
        ]
        settings = context.settings
        pulls = plan_pulls(
            demand,
            supplies,
            slices=settings.gather.slices,
            linger_s=settings.lanes[lane].linger_s,
            lines_max=settings.gather.lines_max,
        )
        opened = [await self._open(lane, pull) for pull in pulls]
        return [batch for batch in opened if batch]

    def _demand(self, load: LaneLoad) -> LaneDemand:
        waiting = load.waiting.values()
        oldest = min((w.oldest_at_ms for w in waiting if w.oldest_at_ms), default=0)
        now = self._context.clock.now_ms()
        return LaneDemand(
            requests=sum(w.requests for w in waiting),
            tokens=sum(w.tokens for w in waiting),
            oldest_wait_s=(now - oldest) / 1000 if oldest else 0.0,
            smallest_tokens=min((w.smallest_tokens for w in waiting if w.smallest_tokens), default=0),
            largest_tokens=max(w.largest_tokens for w in waiting),
        )

    async def _open(self, lane: str, pull: Pull) -> Batch | None:
        context = self._context
        batch = Batch(
            id=new_batch_id(context.clock.now_ms()),
            lane=lane,
            deployment=pull.deployment,
            state=BatchState.CLAIMING,
            fence=0,
            epoch=context.epochs.number,
        )
        limit = context.limit_tokens(pull.deployment)
        if not await context.batches.open(batch, tokens=pull.tokens, limit=limit):
            return None
        log.debug(
            "gatherer.batch_opened", batch=batch.id, lane=lane, deployment=pull.deployment, reason=pull.reason
        )
        context.metrics.batch_opened(lane, pull.deployment, pull.reason)
        return batch

    async def _refuse_oversized(self, lane: str, tokens_max: int) -> None:
        """Answer requests that no deployment of the lane can ever hold."""
        context = self._context
        settlements = [
            Settlement.of(
                custom_id=name.decode(),
                status=Status.FAILED,
                reply=error_reply(
                    ReplyError(
                        code="exceeds_quota",
                        message=f"the request's estimated tokens exceed {tokens_max}, "
                        f"the whole quota of the largest deployment of lane {lane}",
                    ),
                ),
            )
            for name in await context.requests.oversized(lane, tokens_max=tokens_max)
        ]
        done = await context.requests.settle(
            lane, None, settlements, reply_ttl_s=context.settings.lanes[lane].reply_ttl_s
        )
        context.metrics.settled(lane, "", Status.FAILED.value, done.settled)

    async def step(self, batch: Batch) -> Move:
        """Claim until the reservation is filled, then seal. A step that was cut short seals what it has."""
        context = self._context
        if batch.runs == 1:
            await self._fill(batch)
        lines, tokens, _bytes = await context.requests.seal(batch.lane, batch.id)
        if lines == 0:
            await context.requests.forget(batch.lane, batch.id)
            return Move(
                state=BatchState.CLOSED, reservation=RELEASE, fields={"outcome": "empty"}, reason="empty"
            )
        context.metrics.claimed(batch.lane, lines, tokens)
        context.metrics.batch_sealed(batch.lane, lines=lines)
        return Move(
            state=BatchState.SEALED,
            fields={"lines": lines, "tokens": tokens},
            reservation=tokens,
            reason="sealed",
        )

    async def _fill(self, batch: Batch) -> None:
        context = self._context
        gather, lane = context.settings.gather, context.lane(batch)
        deployment = context.deployment(batch)
        overhead = line_overhead(url=context.client(batch).line_url(lane.endpoint), model=deployment.model)
        load = await context.requests.load(batch.lane)
        waiting = {priority: w.tokens for priority, w in load.waiting.items() if w.requests}
        tokens, lines, size = batch.tokens, gather.lines_max, gather.file_bytes_max
        # the second round offers what lower priorities left of their share to whoever still waits
        rounds = [*share_by_priority(tokens, waiting), *((p, tokens) for p in Priority)]
        for priority, share in rounds:
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
                    weights=lane.weights,
                )
                left -= claim.tokens
                tokens -= claim.tokens
                lines -= claim.requests
                size -= claim.file_bytes
                if claim.stopped != "page":
                    break
