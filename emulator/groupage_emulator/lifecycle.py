"""A batch's life: from `validating` to a terminal status, as events on the clock (section 4.4 of `azure-batch.md`).

Owns every change of `Batch.status`. Quota is held from `begin` to the terminal status, plus a lag where configured. Once
rows are being written nothing stops a batch, so nothing is billed twice.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from random import Random

from groupage_emulator import journal, outputs, replies
from groupage_emulator.batch import Batch, Status
from groupage_emulator.clock import Clock
from groupage_emulator.config import RegionConfig, Span
from groupage_emulator.files import Files
from groupage_emulator.journal import Journal
from groupage_emulator.plan import Plan
from groupage_emulator.results import Results
from groupage_emulator.tenure import Tenure
from groupage_emulator.throughput import Throughput
from groupage_emulator.validation import Invalid, Validation

Step = Callable[[Batch], Awaitable[None]]

_REFUSED_WINDOW = "The completion_window '{}' is not supported. Only '24h' is accepted."
_ROUNDING = 1e-3  # of a line: times are floats of a microsecond's precision


class Lifecycle:
    """Moves the batches of one region.

    Args:
        config: The region's configuration.
        clock: The service's clock.
        files: The region's files.
        journal: Where everything is written.
        rng: Of durations and orders.
        work: Bounds how many batches are validated or written at once, in all regions.
    """

    def __init__(
        self,
        *,
        config: RegionConfig,
        clock: Clock,
        files: Files,
        journal: Journal,
        rng: Random,
        work: asyncio.Semaphore,
    ) -> None:
        self._config = config
        self._clock = clock
        self._files = files
        self._journal = journal
        self._rng = rng
        self._work = work
        self._tenure = Tenure(config, clock)
        self._results = Results(config=config, clock=clock, files=files, journal=journal, rng=rng)
        self._throughput = Throughput(clock, config.tokens_per_s, config.batch_tokens_per_s_max)

    def begin(self, batch: Batch) -> None:
        """Starts the life of a created batch: it holds its estimate and is validated after a while."""
        if batch.ledger is not None:
            self._tenure.begin(batch, batch.ledger)
        batch.times[Status.VALIDATING] = batch.created_at
        self._later(batch, self._config.timing.validating, self._validate)
        if "expire" in batch.faults:
            self._clock.call_at(batch.after("expire"), lambda: self._expire(batch))
        elif self._config.quirks.expires:
            self._clock.call_at(batch.expires_at, lambda: self._expire(batch))

    async def cancel(self, batch: Batch) -> None:
        """Cancels: what is done stays, the rest ends in the error file.

        Raises:
            Refusal: The batch is terminal and the region is configured to say so.
        """
        if batch.status.is_terminal:
            if self._config.quirks.cancel_terminal != 200:
                raise replies.error_envelope(
                    self._config.quirks.cancel_terminal,
                    "conflict",
                    f"Cannot cancel a batch with status '{batch.status}'.",
                )
            return
        if batch.is_closing or batch.status is Status.CANCELLING:
            return
        self._journal.write(
            journal.Cancel(at_s=self._clock.now(), region=self._config.name, batch_id=batch.id)
        )
        self._stop(batch)
        self._enter(batch, Status.CANCELLING)
        self._later(batch, self._config.timing.cancelling, self._cancelled)

    def completed_now(self, batch: Batch) -> int:
        """How many lines are worked off at this instant."""
        if batch.status is not Status.IN_PROGRESS or batch.share is None:
            return batch.total if batch.status is Status.FINALIZING else batch.done
        elapsed_s = self._clock.now() - batch.times[Status.IN_PROGRESS]
        in_time = 1.0 if batch.run_s <= 0 else min(1.0, elapsed_s / batch.run_s)
        return math.floor(min(in_time, self._throughput.progress(batch.share)) * batch.total + _ROUNDING)

    def _enter(self, batch: Batch, status: Status) -> None:
        batch.status = status
        batch.times[status] = self._clock.now()

    def _later(self, batch: Batch, span: Span, step: Step) -> None:
        """Takes the next step after the status has lasted long enough; never, when it is stuck for ever."""
        delay_s = span.draw(self._rng) + batch.stuck_s(batch.status)
        if delay_s == math.inf:
            return
        batch.timer = self._clock.call_in(delay_s, lambda: step(batch))

    def _stop(self, batch: Batch) -> None:
        """Takes the batch off the clock and notes how far it came."""
        batch.done = self.completed_now(batch)
        if batch.timer is not None:
            batch.timer.cancel()
        if batch.share is not None:
            self._throughput.stop(batch.share)

    async def _validate(self, batch: Batch) -> None:
        rule = batch.faults.get("fail")
        if rule is not None and rule.state == "validating":
            self._fail(batch, [replies.entry(rule.code, rule.message)] if rule.code else None)
            return
        try:
            self._check(batch)
            async with self._work:
                await self._read(batch)
        except Invalid as invalid:
            if batch.status is Status.VALIDATING:
                self._fail(batch, invalid.entries)

    async def _read(self, batch: Batch) -> None:
        """Reads the input file, and starts the work if there is room for it.

        Raises:
            Invalid: The file or the quota says no.
        """
        if batch.status is not Status.VALIDATING:
            return
        plan = Plan(batch.input_path.with_suffix(".plan"))
        try:
            check = Validation(region=self._config, profile=batch.profile, endpoint=batch.endpoint)
            await check.run(batch.input_path, plan)
            plan.seal()
            if batch.status is Status.VALIDATING:
                self._admit(batch, plan)
        finally:
            if batch.plan is None:
                plan.close()

    def _check(self, batch: Batch) -> None:
        """Finds what is wrong before the file is read.

        Raises:
            Invalid: The window is wrong, or the input file is gone.
        """
        if batch.completion_window != "24h":
            raise Invalid([replies.entry("invalid_request", _REFUSED_WINDOW.format(batch.completion_window))])
        if self._config.quirks.deleted_input == "fail" and not self._files.has(batch.input_file_id):
            raise Invalid(
                [
                    replies.entry(
                        "invalid_request", f"The input file '{batch.input_file_id}' could not be found."
                    )
                ]
            )

    def _admit(self, batch: Batch, plan: Plan) -> None:
        """Puts the true count into the ledger and starts the work.

        Raises:
            Invalid: The quota has no room for it.
        """
        batch.total = len(plan)
        ledger = batch.ledger
        if ledger is not None:
            fail_fast = batch.profile.fail_fast and self._config.fail_fast
            if not ledger.admit(batch.id, plan.input_tokens, fail_fast=fail_fast):
                raise Invalid([replies.entry("token_limit_exceeded", ledger.message())])
        batch.plan = plan
        self._journal.write(
            journal.Validated(
                at_s=self._clock.now(),
                region=self._config.name,
                batch_id=batch.id,
                custom_ids=batch.total,
                tokens=plan.input_tokens,
            )
        )
        self._enter(batch, Status.IN_PROGRESS)
        self._later(batch, Span(fixed=0), self._work_off)

    async def _work_off(self, batch: Batch) -> None:
        """Shares in the region's token speed until all tokens are worked off."""
        if batch.status is Status.IN_PROGRESS and batch.plan is not None:
            batch.run_s = self._config.timing.in_progress.draw(self._rng)
            batch.share = self._throughput.start(batch.plan.tokens, lambda: self._worked_off(batch))

    async def _worked_off(self, batch: Batch) -> None:
        """Waits for the shortest time that a run takes, whatever its size."""
        if batch.status is Status.IN_PROGRESS:
            left_s = batch.times[Status.IN_PROGRESS] + batch.run_s - self._clock.now()
            batch.timer = self._clock.call_in(max(0.0, left_s), lambda: self._finalize(batch))

    async def _finalize(self, batch: Batch) -> None:
        if batch.status is not Status.IN_PROGRESS:
            return
        batch.done = batch.total
        if await self._failed_late(batch):
            return
        self._enter(batch, Status.FINALIZING)
        self._later(batch, self._config.timing.finalizing, self._complete)

    async def _complete(self, batch: Batch) -> None:
        if batch.status is Status.FINALIZING and not await self._failed_late(batch):
            await self._close(batch, Status.COMPLETED, batch.total)

    async def _cancelled(self, batch: Batch) -> None:
        if batch.status is not Status.CANCELLING:
            return
        if "cancel_race" in batch.faults and batch.plan is not None:
            await self._close(batch, Status.COMPLETED, batch.total)
        else:
            await self._close(batch, Status.CANCELLED, batch.done)

    async def _expire(self, batch: Batch) -> None:
        if not batch.status.is_terminal and not batch.is_closing:
            self._stop(batch)
            await self._close(batch, Status.EXPIRED, batch.done)

    async def _failed_late(self, batch: Batch) -> bool:
        """Fails a batch after validation, when a fault says so; its lines are then billed if it keeps its files."""
        rule = batch.faults.get("fail")
        if rule is None or rule.state != batch.status:
            return False
        batch.errors = [replies.entry(rule.code, rule.message)] if rule.code else None
        if rule.with_files:
            batch.times.setdefault(Status.FINALIZING, self._clock.now())
            await self._close(batch, Status.FAILED, batch.total)
            batch.times[Status.COMPLETED] = batch.times.pop(Status.FAILED)
        else:
            self._fail(batch, batch.errors)
        return True

    def _fail(self, batch: Batch, errors: list[dict[str, object]] | None) -> None:
        self._stop(batch)
        batch.errors = errors
        self._end(batch, Status.FAILED)

    async def _close(self, batch: Batch, status: Status, done: int) -> None:
        """Writes the files and ends the batch."""
        batch.is_closing = True
        if batch.plan is not None:
            async with self._work:
                await self._results.write(batch, batch.plan, status, done)
        self._end(batch, status)

    def _end(self, batch: Batch, status: Status) -> None:
        """Enters a terminal status, gives back tokens and disk space, and flushes the journal."""
        self._enter(batch, status)
        if batch.plan is not None:
            batch.plan.close()
            batch.plan = None
        outputs.discard(batch.input_path)
        self._journal.write(
            journal.Status(
                at_s=self._clock.now(),
                region=self._config.name,
                batch_id=batch.id,
                status=status,
                completed=batch.completed,
                failed=batch.failed,
                code=batch.code,
            )
        )
        if batch.ledger is not None:
            self._tenure.end(batch, batch.ledger)
        self._journal.flush()
