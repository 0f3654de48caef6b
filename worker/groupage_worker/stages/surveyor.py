"""What one region has of ours, compared with the records: what Redis forgot is taken back.

Remote batches and input files carry our names, so they tell whose they are: a batch without a record gets one, and a
record that lags behind its remote batch catches up.
"""

import math

import structlog

from groupage_worker.azure.wire import RemoteBatch, RemoteFile
from groupage_worker.errors import NotFound, WorkerError
from groupage_worker.jsonl import LineSplitter, line_frame
from groupage_worker.models import Batch, Move
from groupage_worker.stages.context import Context
from groupage_worker.stages.naming import Owner, owner_of_batch, owner_of_file
from groupage_worker.states import BEFORE_SUBMITTED, TERMINAL, BatchState, RemoteStatus

log = structlog.get_logger("surveyor")

BYTES_PER_TOKEN = 4
"""Estimate of a file's tokens: it counts what stands around the bodies as well, so it is none too low."""

FLYING = frozenset({BatchState.SUBMITTED, BatchState.DELIVERING})
"""States of a batch whose manifest must have every line of its file that has no reply yet."""


class Surveyor:
    """Finds what the service has and no record knows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def look_at(self, region: str) -> bool:
        """Adopt what one region has of ours and no record knows; False if it cannot be asked, or hides some of it.

        A record precedes every upload and outlives its files, so this is safe at any time.
        """
        context = self._context
        is_whole = True
        client, cluster = context.azure[region], context.settings.cluster
        try:
            files = {f.id: f async for f in client.list_files() if owner_of_file(cluster, f.name or "")}
            used: set[str] = set()
            async for seen in client.list_batches():
                try:
                    used.add(await self._look_at_batch(region, seen, files))
                except NotFound:
                    # listed and yet not there, or its file is: the others are looked at all the same
                    log.warning("surveyor.batch_hidden", region=region, remote=seen.id)
                    is_ours = seen.input_file_id in files or owner_of_batch(cluster, seen.metadata)
                    is_whole = is_whole and not is_ours
            for file in files.values():
                if file.id not in used and not await self._match_file(region, file):
                    is_whole = False
        except WorkerError as error:
            log.warning("surveyor.region_away", region=region, code=error.code)
            return False
        return is_whole

    async def _look_at_batch(self, region: str, seen: RemoteBatch, files: dict[str, RemoteFile]) -> str:
        """Compare one listed batch with its record; the input file it is known to use, empty if it is not ours."""
        context = self._context
        remote = seen if seen.metadata else await context.azure[region].get_batch(seen.id)
        file = files.get(remote.input_file_id or "")
        owner = await self._owner_of(remote, file)
        if owner is None:
            return ""
        await self._match(region, remote, owner, file)
        return remote.input_file_id or ""

    async def _owner_of(self, remote: RemoteBatch, file: RemoteFile | None) -> Owner | None:
        """Which attempt a batch says it is; of one that says nothing, what its file and the record that this names can tell.

        None where it is not ours, and where the record knows its file but not this batch: `resolver` looks for it by
        that file.
        """
        cluster = self._context.settings.cluster
        if remote.metadata:
            return owner_of_batch(cluster, remote.metadata)
        named = owner_of_file(cluster, file.name or "") if file else None
        record = await self._context.batches.read(named.batch) if named else None
        if named is None or record is None:
            return None
        if record.remote_id == remote.id:
            return Owner(record.id, record.attempt)
        is_before_upload = record.state in BEFORE_SUBMITTED and not record.input_file_id
        return named if is_before_upload and named.attempt >= record.attempt else None

    async def _match(self, region: str, remote: RemoteBatch, owner: Owner, file: RemoteFile | None) -> None:
        """Compare one remote batch with its record."""
        context = self._context
        record = await context.batches.read(owner.batch)
        if record is None:
            if file is None and remote.status not in TERMINAL and remote.input_file_id:
                # lists may leave out what is there; a batch that runs is not paid again for that
                file = await context.azure[region].get_file(remote.input_file_id)
            # without its input file it was delivered and cleaned up long ago
            if file:
                await self._adopt(region, owner, remote, file)
            return
        lags = record.attempt < owner.attempt or (
            record.attempt == owner.attempt and record.state in BEFORE_SUBMITTED
        )
        if record.state in FLYING and record.remote_id == remote.id:
            # a manifest that is shorter than its file has lost requests, unless it was filled since
            lags = (
                record.epoch != context.epochs.number(record.lane)
                and len(await context.requests.owed(record.lane, record.id)) < record.lines
            )
        if record.state is BatchState.CLEANING:
            lags = bool(file) and await self._is_forgotten(record, remote)
        if not lags or record.state not in BEFORE_SUBMITTED | FLYING | {BatchState.CLEANING}:
            return
        await self._catch_up(record, remote, owner)

    async def _catch_up(self, record: Batch, remote: RemoteBatch, owner: Owner) -> None:
        """Bring a record to the attempt that the service has, one at a time as they were made."""
        context = self._context
        log.warning("surveyor.record_lagged", batch=record.id, state=record.state.value, remote=remote.id)
        fields: dict[str, str | int] = {
            # one that says nothing may be an attempt before: `resolver` looks which one of its file it is
            "remote_id": "" if remote.is_unpaid and not remote.metadata else remote.id,
            "input_file_id": remote.input_file_id or "",
            "submitted_at_ms": remote.created_at_ms or context.clock.now_ms(),
            "output_read_bytes": 0,
            "error_read_bytes": 0,
            # what its files were read for belongs to the lost history
            "cuts": 0,
            "last_error": "",
        }
        states = {record.state}
        while held := await context.batches.begin(record.id):
            if held.state not in states:
                return
            is_behind = held.attempt < owner.attempt
            move = Move(state=BatchState.ADOPTING, fields=fields, next_attempt=is_behind, reason="lagged")
            if (await context.batches.commit(held, move)).attempt >= owner.attempt:
                return
            states = {BatchState.ADOPTING}

    async def _is_forgotten(self, record: Batch, remote: RemoteBatch) -> bool:
        """Whether the data server alone forgot a batch that was delivered: its replies are to be read once more."""
        if record.remote_id != remote.id or remote.status != RemoteStatus.COMPLETED:
            return False
        return not await self._context.requests.has_manifest(record.lane, record.id)

    async def _adopt(self, region: str, owner: Owner, remote: RemoteBatch, file: RemoteFile) -> None:
        context = self._context
        lane = remote.metadata.get("groupage_lane", "")
        deployment = remote.metadata.get("groupage_deployment", "")
        known = context.settings.deployments.get(deployment)
        if lane not in context.settings.lanes or known is None or known.region != region:
            log.error("surveyor.unknown_owner", remote=remote.id, lane=lane, deployment=deployment)
            context.metrics.worker_error("surveyor", "not_in_settings")
            return
        await self._write_record(owner, lane, deployment, file, remote)

    async def _match_file(self, region: str, file: RemoteFile) -> bool:
        """Take an input file back that neither a record nor a remote batch knows; False if it cannot be read now."""
        context = self._context
        owner = owner_of_file(context.settings.cluster, file.name or "")
        if owner is None or await context.batches.read(owner.batch) is not None:
            return True
        if not context.epochs.is_frozen and self._is_old(file):
            return True
        try:
            first = await self._first_line(region, file)
        except NotFound:
            # listed and yet not there: one file must not keep the others from being looked at
            log.warning("surveyor.file_hidden", region=region, file=file.id)
            return False
        for lane_name, lane in context.settings.lanes.items():
            url = context.azure[region].line_url(lane.endpoint)
            for name in lane.deployments:
                deployment = context.settings.deployments[name]
                frame = line_frame(url=url, model=deployment.model)[1]
                if deployment.region == region and frame in first:
                    await self._write_record(owner, lane_name, name, file, None)
                    return True
        log.error("surveyor.unknown_owner", file=file.id)
        context.metrics.worker_error("surveyor", "not_in_settings")
        return True

    def _is_old(self, file: RemoteFile) -> bool:
        """Whether a file may have outlived record and replies of its batch: then nothing was forgotten."""
        context = self._context
        settings = context.settings
        kept_s = min(settings.retention.closed_s, *(lane.reply_ttl_s for lane in settings.lanes.values()))
        age_ms = context.clock.now_ms() - (file.created_at_ms or 0)
        return age_ms > kept_s * 1000

    async def _first_line(self, region: str, file: RemoteFile) -> bytes:
        splitter = LineSplitter()
        async with self._context.azure[region].content(file.id) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    return line
        return b""

    async def _write_record(
        self, owner: Owner, lane: str, deployment: str, file: RemoteFile, remote: RemoteBatch | None
    ) -> None:
        context = self._context
        batch = Batch(
            id=owner.batch,
            lane=lane,
            deployment=deployment,
            state=BatchState.ADOPTING,
            fence=0,
            attempt=owner.attempt,
            epoch=context.epochs.number(lane),
            remote_id=remote.id if remote else "",
            input_file_id=file.id,
            submitted_at_ms=(remote.created_at_ms or context.clock.now_ms()) if remote else 0,
        )
        factor = (await context.batches.known.read(deployment)).factor(lane)
        tokens = math.ceil((file.bytes or 0) / BYTES_PER_TOKEN * factor.reserve_ratio())
        if await context.batches.adopt(batch, tokens=tokens):
            log.warning("surveyor.adopted", batch=batch.id, lane=lane, deployment=deployment)
            context.metrics.adopted(deployment)
