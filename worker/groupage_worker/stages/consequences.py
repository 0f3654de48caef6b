"""What follows from a verdict of `azure.faults`: one place that turns it into a move.

The table of codes lives in `azure/faults.py`; this is the other half: next → state.
"""

import dataclasses

import structlog

from groupage_worker.azure.verdicts import Next, Verdict
from groupage_worker.errors import NotFound
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.quota import backoff_s
from groupage_worker.stages import lessons
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
    await lessons.failed(context, batch, code)
    return Move(state=BatchState.REQUEUEING, fields={"last_error": code}, reason=code)


async def follow(context: Context, batch: Batch, verdict: Verdict) -> Move:
    """The move that a verdict leads to, pauses of the deployment included."""
    # the same code twice in a row may mean something else than once
    what = verdict.again if batch.last_error == verdict.code else verdict.next
    log.warning(
        "consequences.batch_refused",
        batch=batch.id,
        lane=batch.lane,
        deployment=batch.deployment,
        attempt=batch.attempt,
        code=verdict.code,
        next=what.value,
    )
    context.metrics.refused(batch.deployment, verdict.code, what.value)
    return await _HANDLERS[what](context, batch, verdict)


async def _wait_quota(context: Context, batch: Batch, verdict: Verdict) -> Move:
    """Keep the file and create again later, unless it can never fit."""
    fields: dict[str, str | int] = {"last_error": verdict.code}
    if await _never_fits(context, batch):
        fields |= {"bad_lines": "", "cut": "", "suspects": ""}
        return Move(state=BatchState.SPLITTING, fields=fields, reason=verdict.code)
    fields["quota_refusals"] = batch.quota_refusals + 1
    wait = await lessons.refused(context, batch, verdict.code)
    return _again(batch, BatchState.UPLOADED, fields, after_s=wait, code=verdict.code)


async def _retry(context: Context, batch: Batch, verdict: Verdict) -> Move:
    """The same again, a few times."""
    if batch.attempt >= ATTEMPTS_MAX:
        return await give_back(context, batch, verdict.code)
    if batch.state is BatchState.SUBMITTED:
        await lessons.failed(context, batch, verdict.code)
    fields: dict[str, str | int] = {"last_error": verdict.code, "retries": batch.retries + 1}
    state = BatchState.SEALED if batch.state is BatchState.UPLOADING else BatchState.UPLOADED
    return _again(batch, state, fields, after_s=backoff_s(batch.retries), code=verdict.code)


async def _free_files(context: Context, batch: Batch, verdict: Verdict) -> Move:
    """Upload again once finished batches have given their files up, which they do at once."""
    await _clean_now(context, batch)
    first_s = context.settings.submit.circuit_pause_s
    wait = await context.pause(batch.deployment, reason=verdict.code, first_s=first_s)
    return _again(batch, BatchState.SEALED, {"last_error": verdict.code}, after_s=wait, code=verdict.code)


async def _reupload(context: Context, batch: Batch, verdict: Verdict) -> Move:
    """The next attempt, with a fresh file."""
    if batch.attempt >= ATTEMPTS_MAX:
        return await give_back(context, batch, verdict.code)
    fields: dict[str, str | int] = {"last_error": verdict.code, "input_file_id": "", "remote_id": ""}
    fields |= {"remote_status": "", "uploads": 0}
    return Move(state=BatchState.SEALED, fields=fields, next_attempt=True, reason=verdict.code)


async def _reroute(context: Context, batch: Batch, verdict: Verdict) -> Move:
    """Every request back to its lane; the deployment is paused."""
    return await give_back(context, batch, verdict.code)


async def _split(context: Context, batch: Batch, verdict: Verdict) -> Move:
    """Find the bad line; or upload again where the service had no file to find one in."""
    if batch.state is BatchState.SUBMITTED and not verdict.lines and not await _has_input(context, batch):
        # its requests are innocent: most likely our own fence deleted the file while lists did not show the batch
        return await _reupload(context, batch, dataclasses.replace(verdict, code="file_not_found"))
    fields: dict[str, str | int] = {
        "last_error": verdict.code,
        "bad_lines": ",".join(str(line) for line in verdict.lines),
        "bad_message": verdict.reason,
        "cut": "",
        "suspects": "",
    }
    return Move(state=BatchState.SPLITTING, fields=fields, reason=verdict.code)


async def _has_input(context: Context, batch: Batch) -> bool:
    try:
        await context.client(batch).get_file(batch.input_file_id)
    except NotFound:
        return False
    return True


async def _resolve(_context: Context, _batch: Batch, verdict: Verdict) -> Move:
    """Find out whether the batch exists."""
    return Move(state=BatchState.RESOLVING, fields={"last_error": verdict.code}, reason=verdict.code)


async def _quarantine(_context: Context, batch: Batch, verdict: Verdict) -> Move:
    """Nobody knows what this refusal means."""
    return set_aside(batch, verdict.code)


def set_aside(batch: Batch, code: str) -> Move:
    """Keep everything; nothing is enqueued at the service, so the quota is free."""
    log.error("consequences.quarantined", batch=batch.id, code=code)
    return Move(
        state=BatchState.QUARANTINED,
        after_s=QUARANTINE_LOOK_S,
        fields={"last_error": code},
        reservation=RELEASE,
        reason=code,
    )


_HANDLERS = {
    Next.WAIT_QUOTA: _wait_quota,
    Next.RETRY: _retry,
    Next.FREE_FILES: _free_files,
    Next.REUPLOAD: _reupload,
    Next.REROUTE: _reroute,
    Next.SPLIT: _split,
    Next.RESOLVE: _resolve,
    Next.QUARANTINE: _quarantine,
}


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
    batch: Batch, state: BatchState, fields: dict[str, str | int], *, after_s: float, code: str
) -> Move:
    """The same file or batch once more; a new attempt if there was a remote batch already."""
    is_next = batch.state is BatchState.SUBMITTED
    if is_next:
        fields |= {"remote_id": "", "remote_status": "", "uploads": 0}
    return Move(state=state, after_s=after_s, fields=fields, next_attempt=is_next, reason=code)
