"""Runs steps: begin → one bounded action → commit. The one place where errors of steps end.

A step name is `batch:<id>`, or one of `rounds` for the periodic ones. The due sets say when each must run; whoever
runs one, however often, does no harm: batches are fenced, and what the periodic steps do is atomic in scripts.
"""

import random
from collections.abc import Awaitable, Callable, Mapping

import structlog
from redis.exceptions import RedisError

from groupage_worker import poison, rounds
from groupage_worker.errors import FenceLost, RegionUnavailable, Transient, WorkerError
from groupage_worker.models import Batch, Move
from groupage_worker.quota import backoff_s
from groupage_worker.rounds import RECOVER
from groupage_worker.stages.adopter import Adopter
from groupage_worker.stages.answerer import Answerer
from groupage_worker.stages.balancer import Balancer
from groupage_worker.stages.bookkeeper import Bookkeeper
from groupage_worker.stages.context import Context
from groupage_worker.stages.deliverer import Deliverer
from groupage_worker.stages.expirer import Expirer
from groupage_worker.stages.gatherer import Gatherer
from groupage_worker.stages.janitor import Janitor
from groupage_worker.stages.ladder import Ladder
from groupage_worker.stages.lookout import Lookout
from groupage_worker.stages.quarantine import Quarantine
from groupage_worker.stages.recoverer import Recoverer
from groupage_worker.stages.requeuer import Requeuer
from groupage_worker.stages.resolver import Resolver
from groupage_worker.stages.splitter import Splitter
from groupage_worker.stages.submitter import Submitter
from groupage_worker.stages.surveyor import Surveyor
from groupage_worker.stages.tracker import Tracker
from groupage_worker.states import HEAVY, BatchState

log = structlog.get_logger("pipeline")

Step = Callable[[Batch], Awaitable[Move]]
Wake = Callable[[str, bool, int], Awaitable[None]]
"""Wake up a step: its name, whether it is heavy, and when (Unix ms)."""

EARLY_MS = 20
"""A step may run this much before it is due, so that clocks that differ by a little do not make it wait again."""
STRANGE_WAIT_S = 5.0
"""A batch that this worker's settings do not know is left to others for so long."""
CRASHED_WAIT_S = 5.0
"""Wait before a periodic step that crashed runs again."""


class Pipeline:
    """Knows which stage handles which state, and runs steps by name."""

    def __init__(self, context: Context, wake: Wake) -> None:
        self._context = context
        self._wake = wake
        submitter = Submitter(context)
        self._gatherer = Gatherer(context)
        self._openers = {
            "gather": (self._gatherer.tick, True),
            "balance": (Balancer(context).tick, False),
            "ladder": (Ladder(context).tick, True),
        }
        self._expirer = Expirer(context)
        self._janitor = Janitor(context)
        self._lookout = Lookout(context)
        self._bookkeeper = Bookkeeper(context)
        self._surveyor = Surveyor(context)
        self._recoverer = Recoverer(context, self._surveyor)
        self._stages: Mapping[BatchState, Step] = {
            BatchState.CLAIMING: self._claim_step,
            BatchState.ANSWERING: Answerer(context).step,
            BatchState.SEALED: submitter.seal_step,
            BatchState.UPLOADING: submitter.upload_step,
            BatchState.UPLOADED: submitter.wait_step,
            BatchState.CREATING: submitter.create_step,
            BatchState.RESOLVING: Resolver(context).step,
            BatchState.ADOPTING: Adopter(context).step,
            BatchState.SUBMITTED: Tracker(context).step,
            BatchState.DELIVERING: Deliverer(context).step,
            BatchState.SPLITTING: Splitter(context).step,
            BatchState.REQUEUEING: Requeuer(context).step,
            BatchState.QUARANTINED: Quarantine(context).step,
            BatchState.CLEANING: self._janitor.step,
        }

    async def schedule_periodic(self) -> None:
        """Make sure that every periodic step of this configuration is due; those that are stay as they are."""
        now = self._context.clock.now_ms()
        for step in rounds.names_of(self._context.settings):
            await self._context.batches.schedule(step, heavy=False, at_ms=now)

    async def beat(self) -> None:
        """Look whether Redis still tells the same history; if not, have it recovered.

        Raises:
            RedisError: If a server does not answer.
        """
        context = self._context
        was_frozen, number = context.epochs.is_frozen, context.epochs.numbers
        await context.epochs.beat()
        if context.epochs.numbers != number:
            context.batches.moves.forget()
        await self.schedule_periodic()
        if context.epochs.is_frozen:
            if not was_frozen:
                log.warning("pipeline.frozen", reason=context.epochs.reason)
            now = context.clock.now_ms()
            await context.batches.schedule(RECOVER, heavy=True, at_ms=now)
            await self._wake(RECOVER, True, now)

    async def run(self, step: str, *, heavy: bool) -> float | None:
        """Run one step if it is due, and whatever follows at once on the same queue.

        Returns:
            Seconds until this step is due again on this queue; None when there is nothing more to do here.

        Raises:
            RedisError: If Redis fails; nothing was committed and the step stays due.
        """
        context = self._context
        due = await context.batches.due_at(step, heavy=heavy)
        if due is None:
            return None
        late_ms = context.clock.now_ms() - due
        if late_ms < -EARLY_MS:
            return -late_ms / 1000
        context.metrics.step_lateness(max(0, late_ms) / 1000)
        kind, _, name = step.partition(":")
        if kind == "batch":
            return await self._run_batch(name, heavy=heavy)
        return await self._run_periodic(step, kind, name)

    async def _run_batch(self, batch_id: str, *, heavy: bool) -> float | None:  # noqa: C901 - one way out an outcome
        context = self._context
        while True:
            try:
                batch = await context.batches.begin(batch_id)
            except (KeyError, ValueError) as error:
                log.error("pipeline.unreadable_record", batch=batch_id, error=error)  # noqa: TRY400 - as it says
                return await self._leave_to_others(f"batch:{batch_id}", heavy=heavy)
            if batch is None:
                await context.batches.drop(batch_id)
                return None
            if batch.state is BatchState.CLOSED or (batch.state in HEAVY) is not heavy:
                return None
            if not self._is_known(batch):
                log.error("pipeline.not_in_settings", batch=batch.id, deployment=batch.deployment)
                return await self._leave_to_others(batch.step, heavy=heavy)
            try:
                move = self._spare(batch) or await self._act(batch)
                await context.batches.commit(batch, move)
            except FenceLost:
                log.info("pipeline.fence_lost", batch=batch.id, state=batch.state.value)
                context.metrics.fence_lost()
                return None
            if move.state is not batch.state:
                context.metrics.batch_moved(batch.lane, batch.deployment, batch.state, move.state)
            if move.state is BatchState.CLOSED:
                return None
            if move.is_heavy is not heavy:
                at = context.clock.now_ms() + int(move.after_s * 1000)
                await self._wake(batch.step, move.is_heavy, at)
                return None
            if move.after_s > 0:
                return move.after_s

    def _spare(self, batch: Batch) -> Move | None:
        """Put off or take apart a batch whose steps end their workers."""
        move = poison.spare(batch)
        if move:
            log.error("pipeline.cut_short", batch=batch.id, state=batch.state.value, runs=batch.deaths)
            self._context.metrics.worker_error(batch.state.value, poison.CODE)
        return move

    async def _claim_step(self, batch: Batch) -> Move:
        """One step of the gatherer. What it found nothing for may have been sent in a history that Redis lost.

        A record that is closed is looked at by nobody; one that is sealed is resolved before it comes to anything.
        """
        move = await self._gatherer.step(batch)
        if move.state is BatchState.CLOSED:
            epochs = self._context.epochs
            await epochs.beat(batch.lane)
            if batch.epoch != epochs.number(batch.lane):
                return Move(state=BatchState.SEALED, reason="earlier_epoch")
        return move

    def _is_known(self, batch: Batch) -> bool:
        settings = self._context.settings
        return batch.lane in settings.lanes and batch.deployment in settings.deployments

    async def _leave_to_others(self, step: str, *, heavy: bool) -> float:
        """Leave a batch that we cannot handle to a worker of another release or configuration, or to a person.

        Nothing is committed: that would hide from whoever comes next that a step was cut short.
        """
        context = self._context
        context.metrics.worker_error("pipeline", "not_in_settings")
        at = context.clock.now_ms() + int(STRANGE_WAIT_S * 1000)
        await context.batches.reschedule(step, heavy=heavy, at_ms=at)
        return STRANGE_WAIT_S

    async def _act(self, batch: Batch) -> Move:
        """One stage's step; an error that the stage leaves to us means: the same again, later."""
        context = self._context
        started = context.clock.monotonic_s()
        outcome = "failed"
        try:
            move = await self._stages[batch.state](batch)
            outcome = "committed" if move.state is not batch.state else "idle"
        except (RedisError, FenceLost):
            raise
        except WorkerError as error:
            outcome = "retried"
            level = log.warning if error.retriable else log.error
            level("pipeline.step_failed", batch=batch.id, state=batch.state.value, code=error.code)
            context.metrics.worker_error(batch.state.value, error.code)
            move = self._later(batch, error)
        except Exception as error:
            # the one broad net: a bug in one stage must not stop the others; it is counted and comes again
            log.exception("pipeline.step_crashed", batch=batch.id, state=batch.state.value)
            context.metrics.worker_error(batch.state.value, type(error).__name__)
            move = self._later(batch, error)
        finally:
            context.metrics.step(batch.state.value, outcome, context.clock.monotonic_s() - started)
        return move

    def _later(self, batch: Batch, error: Exception) -> Move:
        wait = backoff_s(batch.retries) * random.uniform(0.5, 1.0)
        if isinstance(error, Transient) and error.retry_after_s:
            wait = error.retry_after_s
        if isinstance(error, RegionUnavailable):
            # what is in flight stays where it is, however long its region is away
            wait = max(wait, self._context.poll_s())
        code = error.code if isinstance(error, WorkerError) else type(error).__name__
        # an intent that failed for a reason nobody foresaw is an unclear one
        state = BatchState.RESOLVING if batch.state is BatchState.CREATING else batch.state
        return Move(
            state=state,
            after_s=wait,
            # what an earlier step of this state left behind is still there: the next one must know
            fields={"retries": batch.retries + 1, "last_error": code, "runs": batch.runs},
            reason=code,
        )

    async def _run_periodic(self, step: str, kind: str, name: str) -> float | None:
        context = self._context
        if not rounds.is_wanted(context.settings, kind, name):
            # of another configuration: a newer worker may know it, so it stays scheduled
            return await self._leave_to_others(step, heavy=False)
        started = context.clock.monotonic_s()
        outcome = "failed"
        every: float | None = rounds.every_s(context.settings, kind)
        try:
            if await self._tick(kind, name):
                await context.batches.unschedule(step)
                every = None
            outcome = "committed"
        except WorkerError as error:
            log.warning("pipeline.step_failed", step=step, code=error.code)
            context.metrics.worker_error(kind, error.code)
        except RedisError:
            raise
        except Exception as error:
            # as for batches: counted, and it comes again
            log.exception("pipeline.step_crashed", step=step)
            context.metrics.worker_error(kind, type(error).__name__)
            every = CRASHED_WAIT_S
        finally:
            context.metrics.step(kind, outcome, context.clock.monotonic_s() - started)
        if every is not None:
            at = context.clock.now_ms() + int(every * 1000)
            await context.batches.reschedule(step, heavy=step == RECOVER, at_ms=at)
        return every

    async def _tick(self, kind: str, name: str) -> bool:
        """One turn of a periodic step; True if it is over for good."""
        context = self._context
        if kind in self._openers and not context.epochs.is_frozen:
            tick, is_heavy = self._openers[kind]
            for batch in await tick(name):
                await self._wake(batch.step, is_heavy, context.clock.now_ms())
        match kind:
            case "expire":
                await self._expirer.tick(name)
            case "sweep" if not context.epochs.is_frozen:
                if await self._janitor.sweep(name):
                    await self._surveyor.look_at(name)
                await self._bookkeeper.tick(name)
            case "look" if not context.epochs.is_frozen:
                for step, at_ms in await self._lookout.tick(name):
                    await self._wake(step, False, at_ms)
            case "recover":
                return await self._recoverer.tick()
        return False
