"""answering: requests that no batch would answer in time, one by one through an online deployment.

Each call is noted before it is made. An answer settles the request. A refusal that says that nothing was done takes
the note back and gives the request back. Whatever is unclear may have been paid, so it is asked once more at most,
also after a crash, and then fails.
"""

import asyncio

import structlog

from groupage.codec import body_of
from groupage.contract import ReplyError, Status
from groupage.scripts import Settlement
from groupage_worker.azure.online import Asked
from groupage_worker.errors import FenceLost, OutsideZone
from groupage_worker.models import RELEASE, Batch, Debt, Move, Settled
from groupage_worker.replymetrics import Bill
from groupage_worker.results import error_reply, read_line, reply_of, status_of
from groupage_worker.stages.context import FROZEN_WAIT_S, Context
from groupage_worker.stages.giveback import requeue_all
from groupage_worker.states import BatchState
from groupage_worker.zones import may_process

log = structlog.get_logger("answerer")

ASKS_MAX = 2
"""Calls for one request whose outcome is unclear: billed once, and at most once more (DESIGN.md, promise 3)."""

AT_ONCE = 8
"""Calls at the same time in one step."""

PARENT_WAIT_S = 1.0
"""Wait for the batch that these requests come from."""

TIMEOUT_S = 120.0
"""Longest wait for one answer."""


class Answerer:
    """Asks an online deployment."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Ask for every request of the batch; what was refused goes back to its lane."""
        context = self._context
        if not may_process(context.lane(batch).zone, context.deployment(batch).zone):
            raise OutsideZone(batch.id)
        parent = await context.batches.read(batch.parent) if batch.parent else None
        if parent and parent.state is BatchState.DELIVERING:
            # the parent, or whoever takes over its step, is still moving requests here
            return Move(state=BatchState.ANSWERING, after_s=PARENT_WAIT_S, reason="parent_splitting")
        # the record must be of today's Redis when money is spent
        await context.epochs.beat(batch.lane)
        if context.epochs.is_frozen:
            return Move(state=BatchState.ANSWERING, after_s=FROZEN_WAIT_S, reason="frozen")
        owed = await context.requests.owed(batch.lane, batch.id)
        if batch.epoch != context.epochs.number(batch.lane):
            return await self._doubt(batch, owed)
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(debt: Debt) -> None:
            async with slots:
                await self._answer(batch, debt)

        # whoever died after the last answer left nothing to ask
        debts = await context.requests.debts(batch.lane, batch.id, owed) if owed else []
        # one that breaks does not cut the others short: they are noted, and may be paid already
        ends = await asyncio.gather(*(one(debt) for debt in debts), return_exceptions=True)
        for error in (end for end in ends if end):
            raise error
        if not await context.batches.holds(batch):
            # somebody else asks for what is left
            raise FenceLost(batch.id)
        left = await requeue_all(context, batch, attempts=0, reason="refused")
        log.info(
            "answerer.answered", batch=batch.id, lane=batch.lane, requests=len(owed) - left, of=len(owed)
        )
        return Move(
            state=BatchState.CLEANING, reservation=RELEASE, fields={"outcome": "completed"}, reason="answered"
        )

    async def _doubt(self, batch: Batch, owed: list[bytes]) -> Move:
        """In the history that was lost these may have been asked, and the notes of it are lost as well."""
        context = self._context
        number = context.epochs.number(batch.lane)
        for custom_id in owed:
            await context.named.intend(batch, custom_id, by=0)
        return Move(state=BatchState.ANSWERING, fields={"epoch": number}, reason="earlier_epoch")

    async def _answer(self, batch: Batch, debt: Debt) -> None:
        context = self._context
        (value,) = await context.requests.payloads(batch.lane, [debt])
        if value is None:
            return
        deployment = context.deployment(batch)
        while (asks := await context.named.intend(batch, debt.custom_id)) <= ASKS_MAX:
            if asks < 0:
                return
            if context.epochs.is_frozen:
                await context.named.intend(batch, debt.custom_id, by=-1)
                return
            asked = await context.client(batch).online.ask(
                model=deployment.model,
                endpoint=context.lane(batch).endpoint,
                body=body_of(value),
                timeout_s=TIMEOUT_S,
            )
            context.metrics.scheduler.asked_online(batch.lane, batch.deployment, asked.outcome)
            if asked.outcome == "answered":
                await self._settle(batch, debt, asked)
                return
            if asked.outcome == "refused":
                await context.named.intend(batch, debt.custom_id, by=-1)
                await self._pause(batch, asked)
                return
        error = ReplyError(code="unclear", message=f"asked online {ASKS_MAX} times without a clear answer")
        await self._fail(batch, debt, error)

    async def _settle(self, batch: Batch, debt: Debt, asked: Asked) -> None:
        """The same truth table as for the lines of a batch."""
        context = self._context
        line = b'{"custom_id":"%b","response":{"status_code":%d,"body":%b}}'
        row = read_line(line % (debt.custom_id, asked.status or 0, asked.body or b"null"))
        origin = context.origin(batch)
        settlement = Settlement.of(
            custom_id=row.custom_id, status=status_of(row.fate), reply=reply_of(row, origin)
        )
        done = await self._write(batch, settlement, status_of(row.fate))
        usd = origin.cost_usd(row.usage) or 0.0
        bill = Bill()
        if done.settled:
            bill.replied(done.waits_s[0], done.margins_s[0], usd=usd)
        else:
            bill.wasted_usd = usd
        bills = {row.custom_id.partition(":")[0]: bill}
        metrics = context.metrics
        metrics.replies.add(batch.lane, batch.deployment, bills, online_price_ratio=origin.online_price_ratio)
        metrics.scheduler.online_cost(batch.lane, batch.deployment, usd)
        if row.usage:
            metrics.tokens_used(batch.lane, batch.deployment, "input", row.usage.input_tokens or 0)
            metrics.tokens_used(batch.lane, batch.deployment, "output", row.usage.output_tokens or 0)

    async def _fail(self, batch: Batch, debt: Debt, error: ReplyError) -> None:
        log.warning("answerer.unclear", batch=batch.id, lane=batch.lane, deployment=batch.deployment)
        reply = error_reply(error, self._context.origin(batch))
        settlement = Settlement.of(custom_id=debt.custom_id.decode(), status=Status.FAILED, reply=reply)
        await self._write(batch, settlement, Status.FAILED)

    async def _write(self, batch: Batch, settlement: Settlement, status: Status) -> Settled:
        context = self._context
        done = await context.requests.settle(
            batch.lane, batch.id, [settlement], reply_ttl_s=context.lane(batch).reply_ttl_s
        )
        context.metrics.settled(batch.lane, batch.deployment, status, done.settled)
        return done

    async def _pause(self, batch: Batch, asked: Asked) -> None:
        first_s = asked.retry_after_s or self._context.settings.submit.circuit_pause_s
        await self._context.pause(batch.deployment, reason=f"http_{asked.status}", first_s=first_s)
