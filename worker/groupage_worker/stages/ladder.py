"""Deadlines before they pass: who must be sent now, who goes through an online deployment, who will be late.

Looks along the deadline wheel, the next deadlines first, until those that are safe. Who must be sent goes into a
batch of its own, by name: at the deployment with the best chance, or at the lane's online deployment.
"""

import math
from collections.abc import AsyncIterator

import structlog

from groupage.codec import Header
from groupage.contract import DUE_SLOT_MS
from groupage_worker.models import Batch, new_batch_id
from groupage_worker.scheduling.circuit import Admission
from groupage_worker.scheduling.deadlines import (
    ONLINE_S,
    Chance,
    Outlook,
    Rung,
    late_ratio,
    outlook,
    predicted_misses,
)
from groupage_worker.stages import sight
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("ladder")

HORIZON_S = 600.0
HORIZON_RATIO = 3.0
HORIZON_MAX_S = 86_400.0
"""How far ahead one looks: so long, and so many times the longest mean time of a batch, at most a day."""

RECORDS_PER_S = 33
"""So many records of batches in flight are looked at for the prediction of late ones: 2,000 take their turn in a minute,
which is how often the service is asked what they do."""

NAMES_MAX = 200
"""Requests of one batch by name; the next tick takes the next ones."""

PAGE = 500


class Ladder:
    """Looks after the deadlines of a lane."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._flown: dict[str, tuple[int, int]] = {}

    async def tick(self, lane: str) -> list[Batch]:
        """Look once; returns the batches that were opened."""
        seen = await sight.views(self._context, lane)
        chosen: dict[tuple[str, Rung], list[str]] = {}
        tokens: dict[str, int] = {}
        risks: list[tuple[float, int]] = []
        online = await self._online(lane)
        async for names, cost, within_s in self._slots(lane, seen):
            look = self._outlook(lane, seen, tokens=cost, within_s=within_s, online=online)
            if look.rung is Rung.WAIT:
                break
            risks.append((0.0 if look.rung is Rung.ONLINE else look.late_ratio, len(names)))
            self._context.metrics.scheduler.rung(lane, look.rung.value, look.reason, len(names))
            where = online if look.rung is Rung.ONLINE else look.deployment
            if where and look.rung is not Rung.LATE:
                chosen.setdefault((where, look.rung), []).extend(names)
                tokens[where] = tokens.get(where, 0) + cost
        await self._context.named.predict(
            lane,
            waiting=math.ceil(predicted_misses(risks)),
            flying=await self._late_flying(lane, seen),
        )
        opened = [
            await self._open(lane, where, rung, names, tokens[where])
            for (where, rung), names in chosen.items()
        ]
        return [batch for batch in opened if batch]

    async def _slots(self, lane: str, seen: list[sight.View]) -> AsyncIterator[tuple[list[str], int, float]]:
        """Names that wait, their tokens, and seconds to their deadline; one slot of the wheel after the other."""
        context = self._context
        now = context.clock.now_ms()
        longest = max((view.state.known.learned.residence_s for view in seen), default=0.0)
        horizon_s = min(HORIZON_MAX_S, HORIZON_S + HORIZON_RATIO * longest)
        first = now // DUE_SLOT_MS
        extra = sight.line_tokens(context, lane)
        for slot in await context.wheel.filled_slots(
            lane, first, first + int(horizon_s * 1000) // DUE_SLOT_MS
        ):
            names = await context.wheel.page_of(lane, slot, page=PAGE)
            headers = await context.requests.headers(lane, names)
            waiting: list[tuple[str, Header]] = [
                (name.decode(), header)
                for name, header in zip(names, headers, strict=True)
                if header and not header.is_claimed and header.deadline_at_ms // DUE_SLOT_MS == slot
            ]
            if waiting:
                soonest = min(header.deadline_at_ms for _, header in waiting)
                cost = sum(header.tokens + extra for _, header in waiting)
                yield [name for name, _ in waiting], cost, (soonest - now) / 1000

    def _outlook(
        self, lane: str, seen: list[sight.View], *, tokens: int, within_s: float, online: str
    ) -> Outlook:
        chances = [
            Chance(
                name=view.name,
                learned=view.state.known.learned,
                # the next batch to end makes room
                queue_s=0.0
                if view.room_tokens >= tokens
                else view.state.known.learned.residence_s / max(1, len(view.state.attempts)),
            )
            for view in seen
            if view.admission is Admission.ALL and not view.is_paused
        ]
        return outlook(
            chances,
            tokens=tokens,
            within_s=within_s,
            linger_s=sight.linger_of(self._context, lane, seen),
            online_s=ONLINE_S if online else None,
        )

    async def _online(self, lane: str) -> str:
        """The lane's online deployment if it can be asked now, else nothing."""
        context = self._context
        name = context.settings.lanes[lane].online
        if name is None:
            return ""
        state = (await context.batches.deployments([name]))[name]
        return "" if state.is_paused(context.clock.now_ms()) else name

    async def _late_flying(self, lane: str, seen: list[sight.View]) -> int:
        """How many requests at the service will most likely be late; the more batches, the more seldom it is looked."""
        now = self._context.clock.now_ms()
        at_ms, late = self._flown.get(lane, (0, 0))
        records = sum(view.state.open_attempts for view in seen)
        if now - at_ms >= records / RECORDS_PER_S * 1000:
            late = math.ceil(predicted_misses(await self._flying(lane, seen)))
            self._flown[lane] = now, late
        return late

    async def _flying(self, lane: str, seen: list[sight.View]) -> list[tuple[float, int]]:
        """Risk and size of the batches at the service, each by its earliest deadline, so never too little."""
        now = self._context.clock.now_ms()
        learned = {view.name: view.state.known.learned for view in seen}
        attempts = [attempt for view in seen for attempt in view.state.attempts]
        risks = []
        for batch in await self._context.batches.moves.holders(attempts):
            if batch.lane == lane and batch.state is BatchState.SUBMITTED and batch.deadline_at_ms:
                risk = late_ratio(
                    learned[batch.deployment],
                    batch.tokens,
                    within_s=(batch.deadline_at_ms - now) / 1000,
                    age_s=max(0, now - batch.submitted_at_ms) / 1000,
                    run_age_s=max(1, now - batch.run_at_ms) / 1000 if batch.run_at_ms else 0.0,
                )
                risks.append((risk, batch.lines - batch.done_lines))
        return risks

    async def _open(
        self, lane: str, deployment: str, rung: Rung, names: list[str], tokens: int
    ) -> Batch | None:
        context = self._context
        state = (await context.batches.deployments([deployment]))[deployment]
        claiming = await context.batches.moves.holders(state.attempts)
        taken = {name for b in claiming if b.state is BatchState.CLAIMING for name in b.names.split()}
        names = [name for name in names if name not in taken][:NAMES_MAX]
        if not names:
            return None
        batch = Batch(
            id=new_batch_id(context.clock.now_ms()),
            lane=lane,
            deployment=deployment,
            state=BatchState.CLAIMING,
            fence=0,
            epoch=context.epochs.number(lane),
            tokens=tokens,
            is_urgent=1,
            names=" ".join(names),
        )
        limit = sight.usable(context, deployment, state)
        limit = state.known.shared.limit_tokens(limit, context.clock.now_ms())
        limit -= await sight.hidden_tokens(context, deployment, state)
        reserve = math.ceil(tokens * max(1.0, state.known.factor(lane).reserve_ratio()))
        if not await context.batches.open(batch, tokens=reserve, limit=limit):
            return None
        reason = "online" if rung is Rung.ONLINE else "deadline"
        log.info(
            "ladder.batch_opened",
            batch=batch.id,
            lane=lane,
            deployment=deployment,
            reason=reason,
            requests=len(names),
        )
        context.metrics.batch_opened(lane, deployment, reason)
        return batch
