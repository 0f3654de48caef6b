"""Runs steps: begin → one bounded action → commit. The one place where errors of steps end.

A step name is `batch:<id>`, or `gather:<lane>`, `expire:<lane>`, `sweep:<region>` for the periodic ones. The due
sets say when each must run; whoever runs one, however often, does no harm: batches are fenced, and what the
periodic steps do is atomic in scripts.
"""

import random
from collections.abc import Awaitable, Callable, Mapping

import structlog
from redis.exceptions import RedisError

from groupage_worker.errors import FenceLost, RegionUnavailable, Transient, WorkerError
from groupage_worker.models import Batch, Move
from groupage_worker.quota import backoff_s
from groupage_worker.stages.context import Context
from groupage_worker.stages.deliverer import Deliverer
from groupage_worker.stages.expirer import Expirer
from groupage_worker.stages.gatherer import Gatherer
from groupage_worker.stages.janitor import Janitor
from groupage_worker.stages.quarantine import Quarantine
from groupage_worker.stages.requeuer import Requeuer
from groupage_worker.stages.resolver import Resolver
from groupage_worker.stages.splitter import Splitter
from groupage_worker.stages.submitter import Submitter
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

EXPIRE_EVERY_S = 1.0
SWEEP_EVERY_S = 600.0


class Pipeline:
    """Knows which stage handles which state, and runs steps by name."""

    def __init__(self, context: Context, wake: Wake) -> None:
        self._context = context
        self._wake = wake
        submitter = Submitter(context)
        self._gatherer = Gatherer(context)
        self._expirer = Expirer(context)
        self._janitor = Janitor(context)
        self._stages: Mapping[BatchState, Step] = {
            BatchState.CLAIMING: self._gatherer.step,
            BatchState.SEALED: submitter.seal_step,
            BatchState.UPLOADING: submitter.upload_step,
            BatchState.UPLOADED: submitter.wait_step,
            BatchState.CREATING: submitter.create_step,
            BatchState.RESOLVING: Resolver(context).step,
            BatchState.SUBMITTED: Tracker(context).step,
            BatchState.DELIVERING: Deliverer(context).step,
            BatchState.SPLITTING: Splitter(context).step,
            BatchState.REQUEUEING: Requeuer(context).step,
            BatchState.QUARANTINED: Quarantine(context).step,
            BatchState.CLEANING: self._janitor.step,
        }

    def periodic_steps(self) -> list[str]:
        """Names of the steps that never end, for this configuration. All of them are light."""
        settings = self._context.settings
        return [
            *(f"{kind}:{lane}" for lane in settings.lanes for kind in ("gather", "expire")),
            *(f"sweep:{region}" for region in settings.regions),
        ]

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

    async def _run_batch(self, batch_id: str, *, heavy: bool) -> float | None:
        context = self._context
        while True:
            batch = await context.batches.begin(batch_id)
            if batch is None:
                await context.batches.unschedule(f"batch:{batch_id}")
                return None
            if batch.state is BatchState.CLOSED or (batch.state in HEAVY) is not heavy:
                return None
            move = await self._act(batch) if self._is_known(batch) else self._strange(batch)
            try:
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

    def _is_known(self, batch: Batch) -> bool:
        settings = self._context.settings
        return batch.lane in settings.lanes and batch.deployment in settings.deployments

    def _strange(self, batch: Batch) -> Move:
        """A batch of a lane or deployment that our settings lack: another worker may know it, or a person."""
        log.error("pipeline.not_in_settings", batch=batch.id, lane=batch.lane, deployment=batch.deployment)
        self._context.metrics.worker_error(batch.state.value, "not_in_settings")
        return Move(state=batch.state, after_s=STRANGE_WAIT_S, reason="not_in_settings")

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
        return Move(
            state=batch.state,
            after_s=wait,
            fields={"retries": batch.retries + 1, "last_error": code},
            reason=code,
        )

    async def _run_periodic(self, step: str, kind: str, name: str) -> float | None:
        context = self._context
        settings = context.settings
        known = settings.regions if kind == "sweep" else settings.lanes
        if name not in known:
            # left by a configuration of earlier days
            await context.batches.unschedule(step)
            return None
        started = context.clock.monotonic_s()
        outcome = "failed"
        try:
            match kind:
                case "gather":
                    every = settings.gather.tick_s
                    for batch in await self._gatherer.tick(name):
                        await self._wake(batch.step, True, context.clock.now_ms())
                case "expire":
                    every = EXPIRE_EVERY_S
                    await self._expirer.tick(name)
                case "sweep":
                    every = SWEEP_EVERY_S
                    await self._janitor.sweep(name)
                case _:
                    await context.batches.unschedule(step)
                    return None
            outcome = "committed"
        except WorkerError as error:
            log.warning("pipeline.step_failed", step=step, code=error.code)
            context.metrics.worker_error(kind, error.code)
        finally:
            context.metrics.step(kind, outcome, context.clock.monotonic_s() - started)
        await context.batches.reschedule(step, heavy=False, at_ms=context.clock.now_ms() + int(every * 1000))
        return every
