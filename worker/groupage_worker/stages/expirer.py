"""Deadlines: whoever was not answered in time gets an `expired` reply, wherever the request is.

Works off the deadline wheel slot by slot. A crash leaves the slot; the next tick settles the rest of it.
"""

import structlog

from groupage.contract import DUE_SLOT_MS, ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker.results import error_reply
from groupage_worker.stages.context import Context

log = structlog.get_logger("expirer")

UNKNOWN_LANE_TTL_S = 172_800.0
"""Replies of a lane that the settings no longer have; its requests still end by their deadlines."""

PAGE = 500
SLOTS_PER_TICK = 12_000
"""After a long pause the wheel is caught up with in portions of under 17 hours of slots, ten looks each."""


class Expirer:
    """Answers requests whose deadline has passed."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self, lane: str) -> int:
        """Work off the slots that have passed since the last tick; returns how many requests expired."""
        wheel, clock = self._context.wheel, self._context.clock
        cursor = await wheel.cursor(lane)
        if not cursor:
            # Redis forgot the wheel; it turns again once the lanes are announced anew
            return 0
        # a slot is worked off once all of it has passed
        last = min(clock.now_ms() // DUE_SLOT_MS - 1, cursor + SLOTS_PER_TICK)
        expired, number = 0, self._context.epochs.number(lane)
        for slot in await wheel.filled_slots(lane, cursor + 1, last):
            expired += await self._work_off(lane, slot, number)
        if last > cursor and self._context.epochs.number(lane) == number:
            await wheel.turn(lane, last, seen=cursor)
        if expired:
            log.info("expirer.expired", lane=lane, requests=expired)
        return expired

    async def _work_off(self, lane: str, slot: int, number: int) -> int:
        context, expired = self._context, 0
        while page := await context.wheel.page_of(lane, slot, page=PAGE):
            headers = await context.requests.headers(lane, page)
            settlements = [
                Settlement.of(
                    custom_id=name.decode(),
                    status=Status.EXPIRED,
                    reply=error_reply(
                        ReplyError(
                            code="deadline_exceeded",
                            message="the deadline passed "
                            + (
                                "while the request was in a batch"
                                if header.is_claimed
                                else "before it was sent"
                            ),
                        ),
                    ),
                )
                for name, header in zip(page, headers, strict=True)
                # an id may have been used again since, with a later deadline; the clock is not asked a second time,
                # for whatever it says now, nobody looks at this slot again
                if header and header.deadline_at_ms < (slot + 1) * DUE_SLOT_MS
            ]
            known = context.settings.lanes.get(lane)
            ttl_s = known.reply_ttl_s if known else UNKNOWN_LANE_TTL_S
            done = await context.requests.settle(lane, None, settlements, reply_ttl_s=ttl_s)
            context.metrics.settled(lane, "", Status.EXPIRED.value, done.settled)
            expired += done.settled
            await context.epochs.beat(lane)
            if context.epochs.number(lane) != number:
                # what had ended may be open again, and this slot is all that ends it
                break
            await context.wheel.drop(lane, slot, page)
        return expired
