"""The client of the service: files and batches of one region, one method per HTTP call."""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog

from groupage.clock import Clock
from groupage.contract import Endpoint
from groupage_worker.azure.auth import credential_of
from groupage_worker.azure.calls import Answer
from groupage_worker.azure.dialect import dialect_of
from groupage_worker.azure.faults import Op
from groupage_worker.azure.multipart import MultipartFile
from groupage_worker.azure.online import OnlineCaller
from groupage_worker.azure.records import CallRecord, Recording
from groupage_worker.azure.scalars import text
from groupage_worker.azure.wire import (
    Page,
    RemoteBatch,
    RemoteFile,
    decode,
    parse_batch,
    parse_file,
    parse_page,
)
from groupage_worker.errors import NotFound, Rejected, Transient
from groupage_worker.settings import HttpSettings, RegionSettings
from groupage_worker.states import TERMINAL, RemoteStatus

FILES_PER_PAGE: Final = 10_000
"""Largest page of files (reference of 2025-04-01-preview; azure-batch.md 2.3, 2026-11-20)."""

WINDOW: Final = "24h"
"""The only completion window (azure-batch.md 4.1, 2026-11-20)."""

_log = structlog.get_logger()


class AzureClient:
    """Files and batches of one region.

    All methods raise the errors of `groupage_worker.errors` as `faults` chooses them: `Transient`,
    `QuotaExhausted`, `RegionUnavailable`, `CredentialsRejected`, `NotFound`, `Rejected`, and `Unclear` from
    `create_batch` alone. `verdicts` says what then happens to a batch.

    Args:
        name: The region's name in the settings; in logs.
        region: Where it is and how it is spoken to.
        http: Time limits.
        clock: Ages tokens, measures calls.
        on_call: Told of every HTTP call, for metrics.
        sleep: Waits so many seconds between tries of a repeated call.

    Raises:
        ConfigurationError: If the settings of the region cannot work.
    """

    def __init__(
        self,
        name: str,
        region: RegionSettings,
        http: HttpSettings,
        *,
        clock: Clock,
        on_call: Callable[[CallRecord], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._dialect = dialect_of(name, region)
        self._calls = self.online = OnlineCaller(
            dialect=self._dialect,
            credential=credential_of(name, region, clock, self._dialect.base),
            http=http,
            clock=clock,
            recording=functools.partial(
                Recording, name=name, location=region.location, clock=clock, on_call=on_call
            ),
            sleep=sleep,
        )

    @property
    def honours_expiry(self) -> bool:
        """Whether remote files can be given an expiry; where not, only our janitor deletes them."""
        return self._dialect.honours_expiry

    def line_url(self, endpoint: Endpoint) -> str:
        """What goes into `url` of each line of an input file.

        Args:
            endpoint: Of the lane.
        """
        return self._dialect.line_url(endpoint)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._calls.aclose()

    async def upload(self, path: Path, *, name: str, expires_after_s: int | None) -> RemoteFile:
        """Upload an input file, streamed, in one try.

        Where it raises `Transient` the file may exist all the same: look for its name in `list_files`. Compare
        `bytes` of the result, where given, with the size on disk.

        Args:
            path: The file; it must not change meanwhile.
            name: Its name for the service, which marks it as ours.
            expires_after_s: Seconds from creation until the service deletes it; None for never. Not sent where
                the api-version ignores it.

        Raises:
            OSError: If the file cannot be read.
        """
        fields = {"purpose": "batch"}
        if expires_after_s is not None and self.honours_expiry:
            # The form that the official client sends (azure-batch.md 2.1, 2026-11-20)
            fields |= {"expires_after[seconds]": str(expires_after_s), "expires_after[anchor]": "created_at"}
        body = MultipartFile(path, name=name, fields=fields)
        file = await self._calls.once(Op.UPLOAD, "POST", "/files", file=body, read=_file)
        if "expires_after[seconds]" in fields and file.expires_at_ms is None:
            _log.warning("azure.expiry_ignored", region=self._name, file_id=file.id)
        return file

    async def get_file(self, file_id: str) -> RemoteFile:
        """Look at a file.

        Args:
            file_id: Its id.

        Raises:
            NotFound: If there is none; also for a while right after its upload (F02).
        """
        return await self._calls.repeat(Op.GET_FILE, "GET", _path("files", file_id), read=_file)

    async def list_files(self) -> AsyncIterator[RemoteFile]:
        """All input files of the resource, also those that are not ours.

        Raises:
            Transient: Code `list_stuck` if the list cannot be read to its end.
        """
        limit = FILES_PER_PAGE if self._dialect.pages_files else None
        async for item in self._items(Op.LIST_FILES, "/files", {"purpose": "batch"}, limit):
            yield parse_file(item)

    async def delete_file(self, file_id: str) -> bool:
        """Delete a file.

        Args:
            file_id: Its id.

        Returns:
            False if there was none.
        """
        try:
            return await self._calls.repeat(
                Op.DELETE_FILE, "DELETE", _path("files", file_id), read=lambda _: True
            )
        except NotFound:
            return False

    def content(
        self, file_id: str, *, from_byte: int = 0, patience: int = 1
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Download a file piece by piece, in one try: `async with client.content(id) as chunks`.

        A body that is shorter than announced raises `Transient` with code `truncated` while it is read. One that
        was cut and announced as cut cannot be told from a whole one: compare with `bytes` of the file. What is before
        `from_byte` is left out; a body may trickle for `patience` windows of `pace`.
        """
        path = _path("files", file_id, "content")
        return self._calls.stream(Op.CONTENT, path, from_byte=from_byte, patience=patience)

    async def create_batch(
        self, *, input_file_id: str, endpoint: Endpoint, metadata: dict[str, str], expires_after_s: int | None
    ) -> RemoteBatch:
        """Create a batch with exactly one POST; a second one only after a 401, with a renewed credential.

        Args:
            input_file_id: A file that is `processed`.
            endpoint: Of the lane.
            metadata: Marks the batch as ours; texts only.
            expires_after_s: Expiry of output files; None for never. Not sent where the api-version ignores it.

        Raises:
            Unclear: If the batch may exist: list before anything else.
            Transient: If it surely does not, and the same may be done again.
        """
        body: dict[str, Any] = {
            "input_file_id": input_file_id,
            "endpoint": self._dialect.create_endpoint(endpoint),
            "completion_window": WINDOW,
            "metadata": metadata,
        }
        if expires_after_s is not None and self.honours_expiry:
            body["output_expires_after"] = {"seconds": expires_after_s, "anchor": "created_at"}
        return await self._calls.once(Op.CREATE, "POST", "/batches", json=body, read=_batch)

    async def get_batch(self, batch_id: str) -> RemoteBatch:
        """Look at a batch.

        Args:
            batch_id: Its id.

        Raises:
            NotFound: If there is none; a batch can also vanish later (F39).
        """
        return await self._calls.repeat(Op.GET_BATCH, "GET", _path("batches", batch_id), read=_batch)

    async def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Cancel a batch; one that has ended, or is being cancelled, is returned as it is.

        Args:
            batch_id: Its id.

        Raises:
            NotFound: If there is none.
        """
        try:
            return await self._calls.once(
                Op.CANCEL, "POST", _path("batches", batch_id, "cancel"), read=_batch
            )
        except (Rejected, Transient):
            # What the service says to cancelling an ended batch is not documented, so look at the batch instead
            batch = await self.get_batch(batch_id)
            if batch.status in TERMINAL or batch.status is RemoteStatus.CANCELLING:
                return batch
            raise

    async def list_batches(self, *, limit: int = 100) -> AsyncGenerator[RemoteBatch, None]:
        """All batches of the resource, also those that are not ours, in the service's order.

        Args:
            limit: Batches per call; 100 is OpenAI's maximum, none is documented for Azure (azure-batch.md 4.5).

        Raises:
            Transient: Code `list_stuck` if the list cannot be read to its end; not finding a batch in what was
                yielded until then proves nothing.
        """
        try:
            async for item in self._items(Op.LIST_BATCHES, "/batches", {}, limit):
                yield parse_batch(item)
        except Rejected as error:
            # no maximum is documented: a service that wants smaller pages is asked for its own
            _log.warning("azure.limit_refused", region=self._name, code=error.code)
            async for item in self._items(Op.LIST_BATCHES, "/batches", {}, None):
                yield parse_batch(item)

    async def _items(
        self, op: Op, path: str, params: dict[str, str], limit: int | None
    ) -> AsyncIterator[dict[str, Any]]:
        """The entries of a list, each id once, over all its pages.

        The end is `has_more: false`, or where the service leaves that out, a page without anything new. A page
        that says there is more and moves no cursor is an error: an incomplete list must not pass for a whole one.
        """
        if limit is not None:
            params = params | {"limit": str(limit)}
        seen: set[str] = set()
        cursors: set[str | None] = {None}
        while True:
            page = await self._calls.repeat(op, "GET", path, params=params, read=_page)
            known = len(seen)
            for item in page.items:
                key = text(item.get("id")) if isinstance(item, dict) else None
                if key is None:
                    _log.warning("azure.unreadable_item", region=self._name, op=op.value)
                elif key not in seen:
                    seen.add(key)
                    yield item
            ends_unsaid = page.has_more is None and (limit is None or len(seen) == known)
            if page.has_more is False or ends_unsaid:
                return
            if page.last_id in cursors:
                raise Transient(
                    f"{op}: the list says there is more and gives no way to it", code="list_stuck"
                )
            cursors.add(page.last_id)
            params = params | {"after": str(page.last_id)}


def _path(*parts: str) -> str:
    """A path of ids and words; an id can never leave its place in it."""
    return "".join(f"/{quote(part, safe='').replace('.', '%2E')}" for part in parts)


def _file(answer: Answer) -> RemoteFile:
    return parse_file(decode(answer.body))


def _batch(answer: Answer) -> RemoteBatch:
    return parse_batch(decode(answer.body), answer.headers)


def _page(answer: Answer) -> Page:
    return parse_page(decode(answer.body))
