"""What follows from a verdict of `azure.faults`: one place that turns it into a move.

The table of codes lives in `azure/faults.py`; this is the other half: next → state.
"""

import structlog

from groupage_worker.azure.verdicts import Next, Verdict
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.quota import backoff_s
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState

log = structlog.get_logger("consequences")

QUARANTINE_LOOK_S = 3_600.0
"""How long a quarantined batch is left alone before the first reminder."""

REFUSED_ALONE_MAX = 3
"""Refusals for quota, with nothing else of ours enqueued there, before a batch is halved (F11)."""

ATTEMPTS_MAX = 5
"""Remote batches of one batch before its requests go back to their lane."""


async def give_back(context: Context, batch: Batch, code: str) -> Move:
    """Pause the deployment and give every request back to its lane: it failed, others may do better."""
    await context.pause(batch.deployment, reason=code, first_s=context.settings.submit.circuit_pause_s)
    return Move(state=BatchState.REQUEUEING, fields={"last_error": code}, reason=code)


async def follow(context: Context, batch: Batch, verdict: Verdict) -> Move:  # noqa: C901 - one case a word of Next
    """The move that a verdict leads to, pauses of the deployment included."""
    log.warning(
        "consequences.batch_refused",
        batch=batch.id,
        lane=batch.lane,
        deployment=batch.deployment,
        attempt=batch.attempt,
        code=verdict.code,
        next=verdict.next.value,
    )
    # the same code twice in a row may mean something else than once
    step = verdict.again if batch.last_error == verdict.code else verdict.next
    context.metrics.refused(batch.deployment, verdict.code, step.value)
    fields: dict[str, str | int] = {"last_error": verdict.code}
    submit = context.settings.submit
    was_created = batch.state is BatchState.SUBMITTED
    match step:
        case Next.WAIT_QUOTA:
            if await _never_fits(context, batch):
                return Move(
                    state=BatchState.SPLITTING,
                    fields={**fields, "bad_lines": "", "cut": "", "suspects": ""},
                    reason=verdict.code,
                )
            fields["quota_refusals"] = batch.quota_refusals + 1
            wait = await context.pause(batch.deployment, reason=verdict.code, first_s=submit.quota_pause_s)
            return _again(BatchState.UPLOADED, fields, after_s=wait, is_next=was_created, code=verdict.code)
        case Next.RETRY:
            fields["retries"] = batch.retries + 1
            if batch.attempt >= ATTEMPTS_MAX:
                return await give_back(context, batch, verdict.code)
            wait = backoff_s(batch.retries)
            state = BatchState.SEALED if batch.state is BatchState.UPLOADING else BatchState.UPLOADED
            return _again(state, fields, after_s=wait, is_next=was_created, code=verdict.code)
        case Next.FREE_FILES:
            # nothing new is uploaded here until finished batches have given their files up, which they do at once
            await _clean_now(context, batch)
            wait = await context.pause(batch.deployment, reason=verdict.code, first_s=submit.circuit_pause_s)
            return _again(BatchState.SEALED, fields, after_s=wait, is_next=was_created, code=verdict.code)
        case Next.REUPLOAD:
            if batch.attempt >= ATTEMPTS_MAX:
                return await give_back(context, batch, verdict.code)
            fields["input_file_id"] = ""
            return _again(BatchState.SEALED, fields, after_s=0.0, is_next=True, code=verdict.code)
        case Next.REROUTE:
            return await give_back(context, batch, verdict.code)
        case Next.SPLIT:
            fields["bad_lines"] = ",".join(str(line) for line in verdict.lines)
            fields["bad_message"] = verdict.reason
            fields["cut"] = fields["suspects"] = ""
            return Move(state=BatchState.SPLITTING, fields=fields, reason=verdict.code)
        case Next.RESOLVE:
            return Move(state=BatchState.RESOLVING, fields=fields, reason=verdict.code)
        case Next.QUARANTINE:
            log.error("consequences.quarantined", batch=batch.id, code=verdict.code)
            return Move(
                state=BatchState.QUARANTINED,
                after_s=QUARANTINE_LOOK_S,
                fields=fields,
                reservation=RELEASE,
                reason=verdict.code,
            )


async def _never_fits(context: Context, batch: Batch) -> bool:
    """Whether the service counts more tokens in this file than the whole quota: refused with nothing else there."""
    if batch.quota_refusals < REFUSED_ALONE_MAX or batch.lines < 2:
        return False
    for held in await context.batches.reservations(batch.deployment):
        name = held.partition(":")[0]
        other = await context.batches.read(name) if name != batch.id else None
        if other and other.state is BatchState.SUBMITTED:
            return False
    return True


async def _clean_now(context: Context, batch: Batch) -> None:
    """Let the finished batches of a region delete their files now instead of after the grace time."""
    region = context.deployment(batch).region
    async for step in context.batches.steps():
        kind, _, name = step.partition(":")
        other = await context.batches.read(name) if kind == "batch" else None
        if other and other.state is BatchState.CLEANING:
            deployment = context.settings.deployments.get(other.deployment)
            if deployment and deployment.region == region:
                await context.batches.reschedule(step, heavy=False, at_ms=context.clock.now_ms())


def _again(
    state: BatchState, fields: dict[str, str | int], *, after_s: float, is_next: bool, code: str
) -> Move:
    if is_next:
        fields |= {"remote_id": "", "remote_status": "", "uploads": 0}
    return Move(state=state, after_s=after_s, fields=fields, next_attempt=is_next, reason=code)
