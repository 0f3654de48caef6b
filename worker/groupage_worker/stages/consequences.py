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
                    state=BatchState.SPLITTING, fields={**fields, "bad_lines": ""}, reason=verdict.code
                )
            fields["retries"] = batch.retries + 1
            wait = await context.pause(batch.deployment, reason=verdict.code, first_s=submit.quota_pause_s)
            return _again(BatchState.UPLOADED, fields, after_s=wait, is_next=was_created, code=verdict.code)
        case Next.RETRY:
            fields["retries"] = batch.retries + 1
            if batch.attempt >= ATTEMPTS_MAX:
                return Move(state=BatchState.REQUEUEING, fields=fields, reason=verdict.code)
            wait = backoff_s(batch.retries)
            state = BatchState.SEALED if batch.state is BatchState.UPLOADING else BatchState.UPLOADED
            return _again(state, fields, after_s=wait, is_next=was_created, code=verdict.code)
        case Next.FREE_FILES:
            # the janitor's next sweep makes room; until then nothing new is uploaded here
            wait = await context.pause(batch.deployment, reason=verdict.code, first_s=submit.circuit_pause_s)
            return _again(BatchState.SEALED, fields, after_s=wait, is_next=was_created, code=verdict.code)
        case Next.REUPLOAD:
            if batch.attempt >= ATTEMPTS_MAX:
                return Move(state=BatchState.REQUEUEING, fields=fields, reason=verdict.code)
            fields["input_file_id"] = ""
            return _again(BatchState.SEALED, fields, after_s=0.0, is_next=True, code=verdict.code)
        case Next.REROUTE:
            await context.pause(batch.deployment, reason=verdict.code, first_s=submit.circuit_pause_s)
            return Move(state=BatchState.REQUEUEING, fields=fields, reason=verdict.code)
        case Next.SPLIT:
            fields["bad_lines"] = ",".join(str(line) for line in verdict.lines)
            fields["bad_message"] = verdict.reason
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
    """Whether the service counts more tokens in this file than the whole quota: it refuses it although it is alone."""
    if batch.retries < REFUSED_ALONE_MAX or batch.lines < 2:
        return False
    state = (await context.batches.deployments([batch.deployment]))[batch.deployment]
    return state.open_attempts == 1


def _again(
    state: BatchState, fields: dict[str, str | int], *, after_s: float, is_next: bool, code: str
) -> Move:
    if is_next:
        fields |= {"remote_id": "", "remote_status": "", "uploads": 0}
    return Move(state=state, after_s=after_s, fields=fields, next_attempt=is_next, reason=code)
