"""What the fleet learns from each batch: written where it shows, read by the scheduler."""

import dataclasses
import functools
import math

import structlog

from groupage_worker import knowledge
from groupage_worker import quota as quotas
from groupage_worker.azure.wire import RemoteBatch
from groupage_worker.knowledge import Knowledge
from groupage_worker.models import Batch
from groupage_worker.scheduling import circuit as circuits
from groupage_worker.scheduling.estimates import TokenFactor, borrowed, observe
from groupage_worker.scheduling.learning import SLICE_BATCHES, Ended, Learned, learn, resliced
from groupage_worker.stages.context import Context
from groupage_worker.stages.sight import (
    door_tokens,
    held,
    hidden_tokens,
    line_tokens,
    usable,
    validated_tokens,
    worth_tokens,
)
from groupage_worker.states import BatchState
from groupage_worker.store.deployments import DeploymentState

log = structlog.get_logger("lessons")

HELD_LOOK_S = 5.0
"""How often a batch that waits for quota looks whether one of ours has ended."""

TURN_LOOK_S = 1.0
"""How often one of the first batches of a deployment looks whether the one before it was accepted."""

AT_SERVICE = frozenset({BatchState.CREATING, BatchState.RESOLVING, BatchState.SUBMITTED})
"""Batches in these states may hold tokens at the service."""

COUNTED_RATIO = 0.5
"""Of fewer lines than this share the service's count says little about the whole file."""


async def _state(context: Context, deployment: str) -> DeploymentState:
    return (await context.batches.deployments([deployment]))[deployment]


async def accepted(context: Context, batch: Batch, remote: RemoteBatch) -> None:
    """The service took a batch: there is at least so much room."""
    await context.batches.absolve(batch.deployment)
    enqueued, most = remote.enqueued_tokens, remote.enqueued_tokens_max
    if enqueued is not None and most is not None:
        await context.batches.note_reported(batch.deployment, tokens=enqueued, limit=most)
    state = await _state(context, batch.deployment)
    holders = await context.batches.moves.holders(state.attempts)
    is_alone = not any(b.state is BatchState.SUBMITTED for b in holders if b.id != batch.id)
    at_service = sum(state.attempts.get(b.reservation, 0) for b in holders if b.state in AT_SERVICE)
    now = context.clock.now_ms()

    def change(known: Knowledge) -> Knowledge:
        shared = quotas.accepted(known.shared, held_tokens=state.reserved_tokens)
        if enqueued is not None and most is not None:
            shared = quotas.told(
                shared,
                held_tokens=at_service,
                enqueued_tokens=enqueued,
                enqueued_tokens_max=most,
                now_ms=now,
            )
        known = dataclasses.replace(
            known, shared=shared, quota_tokens=known.quota_tokens if most is None else most
        )
        return knowledge.moved(known, now_ms=now, is_counting=False) if is_alone else known

    await context.batches.known.update(batch.deployment, change)


async def refused(context: Context, batch: Batch, code: str) -> float:
    """A batch was refused for quota; returns the seconds after which it looks again."""
    state = await _state(context, batch.deployment)
    own = state.attempts.get(batch.reservation, 0)
    now = context.clock.now_ms()
    is_alone = not await _is_another_there(context, batch, state)

    def change(known: Knowledge) -> Knowledge:
        shared = quotas.refused(
            known.shared,
            held_tokens=state.reserved_tokens - own,
            now_ms=now,
            first_s=context.settings.submit.quota_pause_s,
            is_unproven=not known.is_proven(batch.lane) and not is_alone,
        )
        return dataclasses.replace(known, shared=shared)

    known = await context.batches.known.update(batch.deployment, change)
    context.metrics.paused(batch.deployment, code)
    return min(HELD_LOOK_S, max(0.0, (known.shared.until_ms - now) / 1000))


async def _is_another_there(context: Context, batch: Batch, state: DeploymentState) -> bool:
    """Whether the service has another batch of ours."""
    holders = await context.batches.moves.holders(state.attempts)
    return any(b.state is BatchState.SUBMITTED and b.id != batch.id for b in holders)


async def quota_wait(context: Context, batch: Batch, state: DeploymentState) -> tuple[float, str]:
    """How long a batch waits before it asks for quota, seconds, and why; 0: it asks now.

    Of those that were refused one at a time asks: the one that waits longest. So do the first ones of a deployment.
    """
    known, now = state.known, context.clock.now_ms()
    shared, usable_tokens = known.shared, usable(context, batch.deployment, state)
    if shared.until_ms - now > quotas.BELIEF_MAX_S * 1000 and not await _is_another_there(
        context, batch, state
    ):
        # what was to end there is gone, however that came about
        shared = quotas.proven(shared, now_ms=now)
    if shared.cap_tokens >= 0:
        if state.reserved_tokens > shared.limit_tokens(usable_tokens, now):
            return min(HELD_LOOK_S, max(0.001, (shared.until_ms - now) / 1000)), "quota_shared"
        first = next(iter(await held(context, state)), batch)
        if first.id != batch.id:
            return HELD_LOOK_S, "quota_shared"
    is_proven = known.is_proven(batch.lane)
    if is_proven and not await hidden_tokens(context, batch.deployment, state):
        return 0.0, ""
    holders = await context.batches.moves.holders(state.attempts)
    there = [b for b in holders if b.state in AT_SERVICE and b.id != batch.id]
    # whoever was refused is the first of those already
    waiting = holders if shared.cap_tokens < 0 else []
    ahead = [b for b in waiting if b.state is BatchState.UPLOADED and b.id < batch.id]
    is_free = quotas.may_create(
        own_tokens=worth_tokens(context, state, [batch]),
        there_tokens=worth_tokens(context, state, there),
        ahead_tokens=worth_tokens(context, state, ahead),
        is_next=not ahead and not any(b.state is BatchState.CREATING for b in there),
        is_proven=is_proven,
        usable_tokens=usable_tokens,
    )
    if is_free:
        return 0.0, ""
    return (HELD_LOOK_S, "quota_hidden") if is_proven else (TURN_LOOK_S, "quota_unproven")


async def failed(context: Context, batch: Batch, code: str) -> None:
    """A batch failed through the service's fault, or could not be brought there."""
    now = context.clock.now_ms()
    change = functools.partial(
        knowledge.failed, now_ms=now, created_at_ms=batch.submitted_at_ms or batch.opened_at_ms, reason=code
    )
    known = await context.batches.known.update(batch.deployment, change)
    if known.circuit.opened_at_ms == now:
        note_open(context, batch.deployment, known)


async def ended_otherwise(context: Context, deployment: str) -> None:
    """A batch ended without having completed: what it held is free, and tells nothing else."""
    change = functools.partial(knowledge.proven, now_ms=context.clock.now_ms(), within_s=0.0)
    await context.batches.known.update(deployment, change)


def note_open(context: Context, deployment: str, known: Knowledge) -> None:
    """Log and count that a circuit was opened."""
    circuit = known.circuit
    seconds = (circuit.until_ms - circuit.opened_at_ms) / 1000
    log.warning("lessons.circuit_opened", deployment=deployment, reason=circuit.reason, seconds=seconds)
    context.metrics.scheduler.circuit_opened(deployment, circuit.reason)


async def moved(context: Context, deployment: str, *, is_counting: bool, gets_on: bool = True) -> None:
    """A batch there showed a sign of life; one that only starts, or ends with nothing done, does not get on."""
    now = context.clock.now_ms()
    change = functools.partial(knowledge.moved, now_ms=now, is_counting=is_counting, gets_on=gets_on)
    await context.batches.known.update(deployment, change)


async def completed(context: Context, batch: Batch, remote: RemoteBatch) -> None:
    """A batch completed: the deployment works, and this is how long it took."""
    state = await _state(context, batch.deployment)
    ended = _ended(context, batch, remote, state)
    waits_s, started = await _waits(context, state) if ended else ([], 0)

    now, pause_s = context.clock.now_ms(), context.settings.submit.quota_pause_s

    def change(known: Knowledge) -> Knowledge:
        # time for its replies to be read: they tell how many tokens it really had
        known = knowledge.proven(known, now_ms=now, within_s=pause_s)
        known = dataclasses.replace(known, circuit=circuits.completed(), probe="")
        if ended is None:
            return known
        before = known.learned
        if not before.batches:
            before = dataclasses.replace(before, slices=context.settings.gather.slices)
        after = learn(before, ended)
        if after.slice_batches >= SLICE_BATCHES:
            after = resliced(after, waits_s=waits_s, started=started)
        return dataclasses.replace(known, learned=after)

    known = await context.batches.known.update(batch.deployment, change)
    _note_learned(batch, state.known.learned, known.learned)


def _note_learned(batch: Batch, before: Learned, after: Learned) -> None:
    if before.batches and before.slices != after.slices:
        log.info("lessons.slices_changed", deployment=batch.deployment, slices=after.slices, of=before.slices)


def _ended(context: Context, batch: Batch, remote: RemoteBatch, state: DeploymentState) -> Ended | None:
    """How a remote batch went by the service's own times; None where they do not say."""
    created = remote.created_at_ms or batch.submitted_at_ms
    started = remote.in_progress_at_ms or batch.run_at_ms
    run_end, end = remote.finalizing_at_ms, remote.completed_at_ms
    if not (created and started and run_end and end and created <= started <= run_end <= end):
        return None
    run_s = (run_end - started) / 1000
    return Ended(
        tokens=state.attempts.get(batch.reservation) or max(1, batch.tokens),
        limit_tokens=max(1, usable(context, batch.deployment, state)),
        overhead_s=(end - created) / 1000 - run_s,
        run_s=run_s,
    )


async def _waits(context: Context, state: DeploymentState) -> tuple[list[float], int]:
    """How long each batch in flight waited for its start, or has so far, and how many have started."""
    now = context.clock.now_ms()
    if state.known.learned.slice_batches + 1 < SLICE_BATCHES:
        return [], 0
    flying = [
        b for b in await context.batches.moves.holders(state.attempts) if b.state is BatchState.SUBMITTED
    ]
    waits_s = [max(0, (b.run_at_ms or now) - b.submitted_at_ms) / 1000 for b in flying]
    return waits_s, sum(1 for b in flying if b.run_at_ms)


async def counted(context: Context, batch: Batch, *, tokens: int, lines: int) -> None:
    """The service counted so many input tokens in so many lines of a batch."""
    if not batch.lines or not COUNTED_RATIO * batch.lines <= lines <= batch.lines:
        return
    estimated = math.ceil(door_tokens(batch, line_tokens(context, batch.lane)) * lines / batch.lines)
    before = (await context.batches.known.read(batch.deployment)).factor(batch.lane)
    now = context.clock.now_ms()

    def change(known: Knowledge) -> Knowledge:
        factor = observe(
            known.factor(batch.lane), estimated=estimated, counted=tokens, now_ms=now, lines=lines
        )
        return knowledge.counted(known, batch.lane, factor, now_ms=now)

    known = await context.batches.known.update(batch.deployment, change)
    factor = known.factor(batch.lane)
    if estimated and tokens:
        context.metrics.scheduler.estimate_error(
            batch.lane, batch.deployment, tokens / (estimated * before.factor) - 1
        )
    if factor.batches == 1:
        await _lend(context, batch, factor)
    if factor.revalued_at_ms == now:
        await _revalue(context, batch.lane, batch.deployment, factor)


async def _lend(context: Context, batch: Batch, factor: TokenFactor) -> None:
    """Tell the lane's other deployments, which have seen nothing yet, what was learned at the first one."""
    now = context.clock.now_ms()

    def change(known: Knowledge) -> Knowledge:
        lent = borrowed(known.factor(batch.lane), factor, now_ms=now)
        return knowledge.counted(known, batch.lane, lent, now_ms=now)

    for name in context.lane(batch).deployments:
        if name != batch.deployment:
            await context.batches.known.update(name, change)


async def _revalue(context: Context, lane: str, deployment: str, factor: TokenFactor) -> None:
    """A lane's factor is not what its batches were reserved by: those that are validated hold their true count."""
    state = await _state(context, deployment)
    batches = [b for b in await context.batches.moves.holders(state.attempts) if b.lane == lane]
    validated = [b for b in batches if b.state is BatchState.SUBMITTED and b.run_at_ms]
    extra = line_tokens(context, lane)
    wanted = {b.reservation: validated_tokens(b, factor, extra) for b in validated}
    freed = await context.batches.moves.shrink(
        deployment, {attempt: tokens for attempt, tokens in wanted.items() if tokens}
    )
    log.info(
        "lessons.factor_changed",
        lane=lane,
        deployment=deployment,
        factor_ratio=round(factor.factor, 3),
        freed_tokens=freed,
        hidden_tokens=await hidden_tokens(context, deployment, state),
    )
