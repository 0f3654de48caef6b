"""cleaning: remote files of a finished batch go after their grace time; sweeps find what crashes left behind."""

from collections.abc import Mapping

import structlog

from groupage_worker.azure.wire import RemoteBatch, RemoteFile
from groupage_worker.errors import WorkerError
from groupage_worker.models import RELEASE, Batch, Move
from groupage_worker.stages.context import Context
from groupage_worker.stages.giveback import requeue_all
from groupage_worker.stages.naming import Owner, owner_of_batch, owner_of_file
from groupage_worker.states import BEFORE_SUBMITTED, TERMINAL, BatchState, RemoteStatus

log = structlog.get_logger("janitor")


DUPLICATES_MS = 48 * 3_600_000
"""How long a create may take to come to light (reliability.md 3.4, 2026-11-20)."""

INPUT_PURPOSE = "batch"
"""Purpose of input files; outputs have another (azure-batch.md 2.1, 2026-11-20)."""

PAGE = 100
"""Remote batches whose records are read together: a page of the service's list."""

FROZEN_WAIT_S = 5.0
"""Wait for the end of a freeze."""


class Janitor:
    """Deletes remote files that nobody needs any more."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def step(self, batch: Batch) -> Move:
        """Delete the files of one batch and close it. A file that is gone already is fine."""
        context = self._context
        await context.epochs.beat(batch.lane)
        if context.epochs.is_frozen:
            return Move(state=BatchState.CLEANING, after_s=FROZEN_WAIT_S, reason="frozen")
        if batch.remote_id and await context.requests.owed(batch.lane, batch.id):
            # Redis went back behind the delivery; the files are still there, so nothing is paid again
            return Move(state=BatchState.DELIVERING, reason="left_over")
        left = await requeue_all(context, batch, attempts=0, reason="left_over")
        if left:
            log.error("janitor.left_over", batch=batch.id, requests=left)
        for kind, file_id in (
            ("input_file", batch.input_file_id),
            ("output_file", batch.output_file_id),
            ("error_file", batch.error_file_id),
        ):
            if file_id and await context.client(batch).delete_file(file_id):
                context.metrics.remote_deleted(kind)
        await context.requests.forget(batch.lane, batch.id)
        context.metrics.batch_closed(batch.lane, batch.deployment, batch.outcome or "delivered")
        log.info(
            "janitor.batch_closed",
            batch=batch.id,
            lane=batch.lane,
            deployment=batch.deployment,
            outcome=batch.outcome,
            attempt=batch.attempt,
            seconds=(context.clock.now_ms() - batch.opened_at_ms) / 1000,
        )
        return Move(state=BatchState.CLOSED, reservation=RELEASE, reason="closed")

    async def sweep(self, region: str) -> bool:
        """Look through what one region has of ours, and end late duplicates and orphan files.

        Returns:
            Whether there are files without a record: Redis forgot them, and `recoverer` could not look here then.
        """
        unnamed = await self._sweep_batches(region)
        context, held = self._context, 0
        files: dict[str, tuple[Owner, RemoteFile]] = {}
        async for file in context.azure[region].list_files():
            # the cap counts input files, whoever made them (azure-batch.md 6.1, 2026-11-20)
            held += file.purpose == INPUT_PURPOSE
            if owner := owner_of_file(context.settings.cluster, file.name or ""):
                files[file.id] = owner, file
        running = await self._sweep_unnamed(region, [b for b in unnamed if b.input_file_id in files], files)
        if context.epochs.is_frozen:
            return False
        deleted, strays = await self._sweep_files(region, files, running)
        await context.batches.note_files(region, held - deleted)
        return strays > 0

    async def _sweep_batches(self, region: str) -> list[RemoteBatch]:
        """Cancel remote batches of ours that no record follows: a create that came to light late.

        A batch without a record is left alone: that may mean that Redis forgot, and `recoverer` adopts it.

        Returns:
            Those that are listed without metadata, whosever they are.
        """
        context, unnamed = self._context, []
        oldest_ms = context.clock.now_ms() - DUPLICATES_MS
        page: list[tuple[Owner, RemoteBatch]] = []
        async for remote in context.azure[region].list_batches():
            if (remote.created_at_ms or oldest_ms) < oldest_ms:
                continue
            if not remote.metadata:
                unnamed.append(remote)
            if owner := owner_of_batch(context.settings.cluster, remote.metadata):
                page.append((owner, remote))
            if len(page) == PAGE:
                await self._end_duplicates(region, page)
                page = []
        await self._end_duplicates(region, page)
        return unnamed

    async def _sweep_unnamed(
        self, region: str, unnamed: list[RemoteBatch], files: Mapping[str, tuple[Owner, RemoteFile]]
    ) -> set[str]:
        """The same for batches of ours that are listed without metadata: who they are is asked one by one.

        One that says nothing then either has only its input file to tell whose it is, and a file may have served
        several attempts. So it is ended only where today's record knows all of them: it was submitted in this
        epoch, or it is closed.

        Returns:
            Input files by which a batch that runs is known, and by nothing else.
        """
        context, running = self._context, set()
        for seen in unnamed:
            owner, _ = files[seen.input_file_id or ""]
            batch = await context.batches.read(owner.batch)
            if batch is None or batch.remote_id == seen.id:
                continue
            try:
                remote = await context.azure[region].get_batch(seen.id)
            except WorkerError as error:
                # one batch must not keep the others, and the files, from being looked at
                log.warning("janitor.batch_unread", remote=seen.id, code=error.code)
                running.add(seen.input_file_id or "")
                continue
            if remote.metadata:
                if named := owner_of_batch(context.settings.cluster, remote.metadata):
                    await self._end_duplicates(region, [(named, remote)])
                continue
            if remote.status not in TERMINAL:
                running.add(seen.input_file_id or "")
            # a record of before a loss may know the first attempt of a file alone, and the second one runs
            await context.epochs.beat(batch.lane)
            if context.epochs.is_frozen:
                break
            is_known = batch.epoch == context.epochs.number(batch.lane) and _is_submitted(batch)
            if is_known or batch.state is BatchState.CLOSED:
                await self._end_duplicate(region, batch, remote)
        return running

    async def _end_duplicates(self, region: str, page: list[tuple[Owner, RemoteBatch]]) -> None:
        """Compare a page with its records, read in one call."""
        context = self._context
        records = await context.batches.moves.records({owner.batch for owner, _ in page})
        known = {batch.id: batch for batch in records}
        for owner, remote in page:
            batch = known.get(owner.batch)
            if batch and batch.remote_id != remote.id and _is_passed(batch, owner):
                await self._end_duplicate(region, batch, remote)

    async def _end_duplicate(self, region: str, batch: Batch, remote: RemoteBatch) -> None:
        """Cancel one, or delete what it has left once it ended."""
        client, metrics = self._context.azure[region], self._context.metrics
        if remote.status not in TERMINAL:
            if remote.status is RemoteStatus.CANCELLING:
                return
            log.error(
                "janitor.duplicate_batch", batch=batch.id, remote=remote.id, deployment=batch.deployment
            )
            metrics.duplicate_batch(batch.deployment)
            await client.cancel_batch(remote.id)
            return
        for kind, file_id in (("output_file", remote.output_file_id), ("error_file", remote.error_file_id)):
            if file_id and await client.delete_file(file_id):
                metrics.remote_deleted(kind)

    async def _sweep_files(
        self, region: str, files: Mapping[str, tuple[Owner, RemoteFile]], running: set[str]
    ) -> tuple[int, int]:
        """Delete input files of ours in one region that no open batch uses.

        A file is left alone while its batch is open, while it is younger than the grace time, and when its batch
        has no record: that means that Redis forgot, and then the file is all that is left of the requests.

        Returns:
            How many were deleted, and how many have no record.
        """
        context, deleted, strays = self._context, 0, 0
        grace_ms = int(context.settings.retention.remote_grace_s * 1000)
        now = context.clock.now_ms()
        for owner, file in files.values():
            if file.created_at_ms is None or now - file.created_at_ms < grace_ms:
                continue
            batch = await context.batches.read(owner.batch)
            if batch is None:
                context.metrics.worker_error("janitor", "file_without_record")
                strays += 1
                continue
            is_used = file.id in running or (
                batch.state is not BatchState.CLOSED
                and (batch.input_file_id == file.id or owner.attempt >= batch.attempt)
            )
            if not is_used and await context.azure[region].delete_file(file.id):
                deleted += 1
                context.metrics.remote_deleted("input_file")
        return deleted, strays


def _is_passed(batch: Batch, owner: Owner) -> bool:
    """Whether the record has gone on without this attempt, so that nobody will ever adopt it."""
    if owner.attempt > batch.attempt:
        # of a history that was lost: the requests had their ends in this one
        return batch.state is BatchState.CLOSED
    if owner.attempt < batch.attempt:
        return True
    return _is_submitted(batch)


def _is_submitted(batch: Batch) -> bool:
    """Whether the record has its remote batch, or had it."""
    return batch.state not in BEFORE_SUBMITTED | {BatchState.ADOPTING}
