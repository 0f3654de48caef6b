"""sealed → uploading → uploaded → creating → submitted: an input file, then exactly one remote batch.

Each intent is committed before its call. A step that was cut short in `uploading` looks for the file it may have
left; one that was cut short in `creating` never posts again: `resolving` finds out.
"""

import math

import structlog

from groupage_worker.azure.verdicts import verdict_of_error
from groupage_worker.azure.wire import RemoteFile
from groupage_worker.errors import (
    NotFound,
    OutsideZone,
    QuotaExhausted,
    RegionUnavailable,
    Rejected,
    SpoolFull,
    Transient,
    Unclear,
)
from groupage_worker.models import Batch, Move
from groupage_worker.quota import backoff_s
from groupage_worker.stages.consequences import follow, give_back
from groupage_worker.stages.context import FROZEN_WAIT_S, Context
from groupage_worker.stages.giveback import end_empty
from groupage_worker.stages.lessons import accepted, quota_wait
from groupage_worker.stages.naming import input_file_name, metadata_of
from groupage_worker.stages.spool import SpoolFile, spooled
from groupage_worker.states import BatchState
from groupage_worker.zones import may_process

log = structlog.get_logger("submitter")

TRANSIENT_MAX = 4
"""Uploads in a row that failed in passing before the deployment is paused and the requests go back."""

SPOOL_WAIT_S = 30.0
"""Wait for disk space."""

UPLOADS_MAX = 5
"""Fresh files for one attempt before the deployment is given up and the requests go back to their lane."""

PROCESSED = "processed"
UNUSABLE = frozenset({"error", "deleting", "deleted"})
"""Statuses of a file, lower case (azure-batch.md 2.2, 2026-11-20)."""

PARENT_WAIT_S = 1.0
"""Wait of a child batch for the parent that is still splitting."""

POST_WITHIN_S = 5.0
"""A step older than this has slept (SIGSTOP, a blocked loop): it lets go instead of posting late."""


class Submitter:
    """Brings a sealed batch to the service."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def seal_step(self, batch: Batch) -> Move:
        """Commit the intent to upload."""
        if batch.uploads >= UPLOADS_MAX:
            return await give_back(self._context, batch, "uploads_exhausted")
        if self._is_doubtful(batch):
            return self._resolve(batch)
        if batch.parent:
            parent = await self._context.batches.read(batch.parent)
            if parent and parent.state in {BatchState.SPLITTING, BatchState.DELIVERING}:
                # the parent, or whoever takes over its step, is still moving requests here
                return Move(state=BatchState.SEALED, after_s=PARENT_WAIT_S, reason="parent_splitting")
        fields = {"uploads": batch.uploads + 1, "retries": batch.retries}
        return Move(state=BatchState.UPLOADING, fields=fields)

    async def upload_step(self, batch: Batch) -> Move:
        """Write the input file and upload it, or adopt the one that an earlier step left."""
        context = self._context
        if self._is_doubtful(batch):
            return self._resolve(batch)
        try:
            async with spooled(context, batch) as spool:
                if spool.lines == 0:
                    return await end_empty(context, batch)
                remote = await self._adopt(batch, spool) or await self._upload(batch, spool)
        except OutsideZone as error:
            return self._outside(batch, error)
        except SpoolFull as error:
            return self._no_room(batch, error)
        except Transient as error:
            if batch.retries + 1 >= TRANSIENT_MAX:
                # the region seems to be away: others may take the requests
                return await give_back(context, batch, error.code)
            return self._again(batch, BatchState.SEALED, error.code, error.retry_after_s)
        except RegionUnavailable as error:
            return await give_back(context, batch, error.code)
        except Rejected as error:
            return await follow(context, batch, verdict_of_error(error))
        if remote.bytes is not None and remote.bytes != spool.file_bytes:
            await context.client(batch).delete_file(remote.id)
            return Move(
                state=BatchState.SEALED,
                after_s=1.0,
                fields={"last_error": "short_upload"},
                reason="short_upload",
            )
        context.metrics.input_file(batch.lane, size_bytes=spool.file_bytes)
        return Move(
            state=BatchState.UPLOADED,
            fields={
                "input_file_id": remote.id,
                "lines": spool.lines,
                "tokens": _tokens_of(batch, spool),
                "file_bytes": spool.file_bytes,
                "file_ready": int(remote.status == PROCESSED),
            },
            reason="uploaded",
        )

    async def _adopt(self, batch: Batch, spool: SpoolFile) -> RemoteFile | None:
        """Find the file that a lost answer or a crash left behind; copies of it are deleted."""
        if batch.uploads <= 1 and batch.runs <= 1:
            return None
        context = self._context
        name = input_file_name(context.settings.cluster, batch)
        found: RemoteFile | None = None
        async for file in context.client(batch).list_files():
            if file.name != name:
                continue
            if found is None and file.bytes == spool.file_bytes and file.status not in UNUSABLE:
                found = file
            else:
                await context.client(batch).delete_file(file.id)
                context.metrics.remote_deleted("input_file")
        if found:
            log.info("submitter.file_adopted", batch=batch.id, attempt=batch.attempt)
        return found

    async def _upload(self, batch: Batch, spool: SpoolFile) -> RemoteFile:
        context = self._context
        client = context.client(batch)
        return await client.upload(
            spool.path,
            name=input_file_name(context.settings.cluster, batch),
            expires_after_s=context.settings.submit.expires_after_s if client.honours_expiry else None,
        )

    async def wait_step(self, batch: Batch) -> Move:
        """Wait until the file is processed and the deployment takes batches, then commit the intent to create."""
        context = self._context
        if self._is_doubtful(batch):
            return self._resolve(batch)
        now = context.clock.now_ms()
        state = (await context.batches.deployments([batch.deployment]))[batch.deployment]
        if state.drained_at_ms:
            return Move(state=BatchState.REQUEUEING, fields={"last_error": "drained"}, reason="drained")
        if state.paused_until_ms > now:
            return Move(
                state=BatchState.UPLOADED, after_s=(state.paused_until_ms - now) / 1000, reason=state.reason
            )
        wait_s, reason = await quota_wait(context, batch, state)
        if wait_s:
            return Move(state=BatchState.UPLOADED, after_s=wait_s, reason=reason)
        if not batch.file_ready:
            move = await self._look_at_file(batch)
            if move:
                return move
        fields: dict[str, str | int] = {"intent_at_ms": now, "file_ready": 1, "looks": 0}
        return Move(state=BatchState.CREATING, fields={**fields, "retries": batch.retries})

    async def _look_at_file(self, batch: Batch) -> Move | None:
        """None once the file is processed."""
        context = self._context
        submit = context.settings.submit
        waited_s = (context.clock.now_ms() - batch.state_at_ms) / 1000
        try:
            file = await context.client(batch).get_file(batch.input_file_id)
        except NotFound:
            # a fresh file may be unknown for a while (F02)
            if waited_s < submit.file_wait_s:
                return Move(state=BatchState.UPLOADED, after_s=submit.file_poll_s, reason="file_not_found")
            return Move(
                state=BatchState.SEALED, fields={"last_error": "file_not_found"}, reason="file_not_found"
            )
        if file.status == PROCESSED:
            return None
        if file.status not in UNUSABLE and waited_s < submit.file_wait_s:
            return Move(state=BatchState.UPLOADED, after_s=submit.file_poll_s, reason="file_pending")
        code = "file_error" if file.status in UNUSABLE else "file_stuck"
        log.warning("submitter.file_unusable", batch=batch.id, code=code, status=file.status)
        await context.client(batch).delete_file(file.id)
        return Move(
            state=BatchState.SEALED,
            next_attempt=True,
            fields={"last_error": code, "input_file_id": ""},
            reason=code,
        )

    async def create_step(self, batch: Batch) -> Move:
        """Post once. Whatever is unclear goes to `resolving`, a step that was cut short as well."""
        context = self._context
        if held := await self._hold(batch):
            return held
        client = context.client(batch)
        try:
            remote = await client.create_batch(
                input_file_id=batch.input_file_id,
                endpoint=context.lane(batch).endpoint,
                metadata=metadata_of(context.settings.cluster, batch),
                expires_after_s=context.settings.submit.expires_after_s if client.honours_expiry else None,
            )
        except Unclear as error:
            log.warning("submitter.create_unclear", batch=batch.id, code=error.code)
            told: dict[str, str | int] = {"unclear_creates": batch.unclear_creates + 1}
            told["last_error"] = error.code
            return Move(state=BatchState.RESOLVING, fields=told, reason=error.code)
        except QuotaExhausted as error:
            return await follow(context, batch, verdict_of_error(error))
        except Transient as error:
            return self._again(batch, BatchState.UPLOADED, error.code, error.retry_after_s)
        except RegionUnavailable as error:
            return await give_back(context, batch, error.code)
        except (Rejected, NotFound) as error:
            return await follow(context, batch, verdict_of_error(error))
        await accepted(context, batch, remote)
        log.info(
            "submitter.batch_submitted",
            batch=batch.id,
            lane=batch.lane,
            deployment=batch.deployment,
            attempt=batch.attempt,
            lines=batch.lines,
            tokens=batch.tokens,
        )
        return submitted(context, remote.id, remote.raw_status, first_poll_s=context.poll_s())

    @staticmethod
    def _no_room(batch: Batch, error: SpoolFull) -> Move:
        """Wait for disk space; no upload was begun."""
        log.error("submitter.spool_full", batch=batch.id, error=error)
        return Move(
            state=BatchState.SEALED,
            after_s=SPOOL_WAIT_S,
            fields={"last_error": error.code, "uploads": batch.uploads - 1},
            reason=error.code,
        )

    async def _hold(self, batch: Batch) -> Move | None:
        """What to do instead of posting; None if nothing speaks against it."""
        context = self._context
        if batch.runs > 1:
            told = {"unclear_creates": batch.unclear_creates + 1}
            return Move(state=BatchState.RESOLVING, fields=told, reason="cut_short")
        if context.clock.now_ms() - batch.intent_at_ms > POST_WITHIN_S * 1000:
            return Move(state=BatchState.UPLOADED, reason="late")
        # the record must be of today's Redis when money is spent
        await context.epochs.beat(batch.lane)
        if context.epochs.is_frozen or self._is_doubtful(batch):
            return Move(state=BatchState.UPLOADED, after_s=FROZEN_WAIT_S, reason="frozen")
        if not may_process(context.lane(batch).zone, context.deployment(batch).zone):
            return self._outside(batch, OutsideZone(batch.id))
        return None

    def _outside(self, batch: Batch, error: OutsideZone) -> Move:
        """Give everything back: the lane's zone or the deployment's has changed since the batch was opened."""
        log.error("submitter.outside_zone", batch=batch.id, lane=batch.lane, deployment=batch.deployment)
        self._context.metrics.worker_error("submitter", error.code)
        return Move(state=BatchState.REQUEUEING, fields={"last_error": error.code}, reason=error.code)

    def _is_doubtful(self, batch: Batch) -> bool:
        """Whether the record is of an earlier epoch: a remote batch may exist that it does not know of."""
        return batch.epoch != self._context.epochs.number(batch.lane)

    def _resolve(self, batch: Batch) -> Move:
        now = self._context.clock.now_ms()
        return Move(
            state=BatchState.RESOLVING,
            fields={"intent_at_ms": now, "looks": 0, "fenced_at_ms": 0},
            reason="earlier_epoch",
        )

    def _again(self, batch: Batch, state: BatchState, code: str, wait_s: float | None) -> Move:
        """The same step again after a pause."""
        fields: dict[str, str | int] = {"last_error": code, "retries": batch.retries + 1}
        return Move(state=state, after_s=wait_s or backoff_s(batch.retries), fields=fields, reason=code)


def submitted(context: Context, remote_id: str, status: str, *, first_poll_s: float) -> Move:
    """The move of a batch whose remote batch is known."""
    return Move(
        state=BatchState.SUBMITTED,
        after_s=first_poll_s,
        fields={"remote_id": remote_id, "remote_status": status, "submitted_at_ms": context.clock.now_ms()},
        reason="submitted",
    )


def _tokens_of(batch: Batch, spool: SpoolFile) -> int:
    """Estimated tokens of a file: whoever was settled since the seal is not in it."""
    return math.ceil(batch.tokens * spool.lines / max(1, batch.lines, spool.lines))
