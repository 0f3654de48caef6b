"""HTTP calls to one region: bounds on time and bytes, and retries of what may be repeated.

What every call is held to: no redirects, no decompression, and exactly one try unless it is asked for with `repeat`.
"""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import httpx

from groupage.clock import Clock
from groupage_worker.azure.auth import Credential
from groupage_worker.azure.dialect import Dialect
from groupage_worker.azure.faults import Op, classify, unreadable
from groupage_worker.azure.multipart import MultipartFile
from groupage_worker.azure.pace import BYTES_PER_S_MIN, Pace
from groupage_worker.azure.records import Recording
from groupage_worker.azure.resume import is_past_end, known_bytes, range_of
from groupage_worker.azure.tls import tls_context
from groupage_worker.azure.wire import UnreadableError
from groupage_worker.errors import Rejected, Transient
from groupage_worker.settings import HttpSettings

ANSWER_BYTES_MAX: Final = 33_554_432
"""Largest small answer: a page of 10,000 files is some 3 MB, so 32 MiB is no answer of the service any more."""

ERROR_BYTES_MAX: Final = 65_536
"""So much of an error body is read; the envelopes of azure-batch.md 7.1 take less than 1 kB."""

CONTENT_BYTES_MAX: Final = 53_687_091_200
"""Largest download: 100,000 lines of 128,000 output tokens at some 4 bytes; more than that is an attack."""

TRIES_MAX: Final = 3
"""Calls of one `repeat`: as the official client does, 2 retries (azure-batch.md 7.1, 2026-11-20)."""

TRIES_S_MAX: Final = 30.0
"""No try begins later than this many seconds after the first; a longer outage is a matter of the next step."""

PAUSE_S_MIN: Final = 0.5
"""First pause at most; doubles. With `PAUSE_S_MAX` the official client's figures (azure-batch.md 7.1)."""

PAUSE_S_MAX: Final = 8.0

UPLOAD_BYTES_PER_S_MIN: Final = 100_000
"""An upload slower than this pins a worker (reliability.md C8): 200 MB get 2,000 s beside the transfer timeout."""

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A 2xx answer, read to its end."""

    headers: httpx.Headers
    body: bytes


class Caller:
    """Makes the calls to one region.

    Args:
        dialect: Where the region is.
        credential: What every call carries.
        http: Time limits.
        clock: Measures how long tries go on.
        recording: Makes the record of one call.
        sleep: Waits so many seconds between tries.
    """

    def __init__(
        self,
        *,
        dialect: Dialect,
        credential: Credential,
        http: HttpSettings,
        clock: Clock,
        recording: Callable[[Op], Recording],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._dialect, self._credential, self._http = dialect, credential, http
        self._clock, self._recording, self._sleep = clock, recording, sleep
        tls = tls_context(trust_env=http.trust_env)

        def client(kept_connections: int) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                auth=credential,
                verify=tls,
                trust_env=http.trust_env,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=100, max_keepalive_connections=kept_connections),
                # A small compressed answer can unpack to any size (reliability.md F8)
                headers={"accept-encoding": "identity", "user-agent": "groupage"},
            )

        self._client = client(20)
        # A create gets a connection of its own: the service may close a kept one just when we send, and that
        # would leave the create unclear for nothing
        self._fresh = client(0)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._fresh.aclose()
        await self._credential.close()

    async def once(
        self,
        op: Op,
        method: str,
        path: str,
        *,
        read: Callable[[Answer], _T],
        params: dict[str, str] | None = None,
        json: dict[str, Any] | None = None,
        file: MultipartFile | None = None,
    ) -> _T:
        """Make one call, exactly one.

        Args:
            op: Which.
            method: HTTP method.
            path: After the base; ids in it are quoted by the caller.
            read: Makes the result of a 2xx answer; raises `UnreadableError` if it cannot.
            params: Query beside the dialect's own.
            json: Body.
            file: Body instead of `json`.

        Raises:
            WorkerError: As `faults` says.
            OSError: If `file` cannot be read.
        """
        silence_s = self._http.call_timeout_s if file is None else self._http.transfer_timeout_s
        total_s = self._http.connect_timeout_s + silence_s
        if file is not None:
            total_s += file.file_bytes / UPLOAD_BYTES_PER_S_MIN
        client = self._fresh if op is Op.CREATE else self._client
        request = client.build_request(
            method,
            f"{self._dialect.base}{path}",
            params=self._dialect.params | (params or {}),
            json=json,
            content=file,
            headers=file.headers if file is not None else None,
            timeout=self._timeout(silence_s),
        )
        with self._recording(op) as recording:
            async with asyncio.timeout(total_s), self._sent(client, request, recording) as response:
                answer = await self._answer(op, response)
            return self._read(op, response, answer, read)

    async def repeat(
        self,
        op: Op,
        method: str,
        path: str,
        *,
        read: Callable[[Answer], _T],
        params: dict[str, str] | None = None,
    ) -> _T:
        """Make a call that changes nothing by being repeated, up to `TRIES_MAX` times with full jitter.

        Args:
            op: Which.
            method: HTTP method.
            path: After the base.
            read: Makes the result.
            params: Query beside the dialect's own.

        Raises:
            WorkerError: As `once`; of the last try, where all failed. At once where the service asks for a longer
                wait than the tries may last together.
        """
        end_s = self._clock.monotonic_s() + TRIES_S_MAX
        for tries in range(1, TRIES_MAX):
            try:
                return await self.once(op, method, path, read=read, params=params)
            except Transient as error:
                pause_s = error.retry_after_s
                if pause_s is None:
                    pause_s = random.uniform(0, min(PAUSE_S_MAX, PAUSE_S_MIN * 2 ** (tries - 1)))
                if self._clock.monotonic_s() + pause_s > end_s:
                    raise
            await self._sleep(pause_s)
        return await self.once(op, method, path, read=read, params=params)

    @contextlib.asynccontextmanager
    async def stream(
        self, op: Op, path: str, *, from_byte: int = 0, patience: int = 1
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Make one call whose answer is read piece by piece; arguments as of `AzureClient.content`.

        Yields:
            The body as it comes from the network. Reading it raises `Transient` with code `truncated` where it
            ends too early and `too_slow` where it trickles (`pace`), and `Rejected` with code `content_too_large` above `CONTENT_BYTES_MAX`.

        Raises:
            WorkerError: As `faults` says, if the answer is none.
        """
        request = self._client.build_request(
            "GET",
            f"{self._dialect.base}{path}",
            params=self._dialect.params,
            headers=range_of(from_byte),
            timeout=self._timeout(self._http.transfer_timeout_s),
        )
        recording = self._recording(op)
        async with contextlib.AsyncExitStack() as stack:
            with recording:
                response = await stack.enter_async_context(self._sent(self._client, request, recording))
                if not is_past_end(response, from_byte):
                    await self._check(op, response)
                known = known_bytes(response, from_byte)
                if known is None:
                    raise unreadable(op, response.status_code, response.headers, b"", retry_after_max_s=0)
                recording.goes_on = True
            chunks = self._chunks(recording, response, known, Pace(self._clock, patience=patience))
            yield await stack.enter_async_context(contextlib.aclosing(chunks))

    def _timeout(self, silence_s: float) -> httpx.Timeout:
        return httpx.Timeout(silence_s, connect=self._http.connect_timeout_s)

    @staticmethod
    @contextlib.asynccontextmanager
    async def _sent(
        client: httpx.AsyncClient, request: httpx.Request, recording: Recording
    ) -> AsyncIterator[httpx.Response]:
        response = recording.response = await client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def _check(self, op: Op, response: httpx.Response) -> None:
        """Raise unless the answer is a 2xx in the encoding asked for."""
        if not response.is_success:
            body = await read_body(response, ERROR_BYTES_MAX)
            raise classify(
                op,
                response.status_code,
                response.headers,
                body[:ERROR_BYTES_MAX],
                retry_after_max_s=self._http.retry_after_max_s,
            )
        if response.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
            # Asked for and not given: unpacking could take any amount of memory
            raise unreadable(op, response.status_code, response.headers, b"", retry_after_max_s=0)

    async def _answer(self, op: Op, response: httpx.Response) -> Answer:
        await self._check(op, response)
        body = await read_body(response, ANSWER_BYTES_MAX)
        if len(body) > ANSWER_BYTES_MAX:
            raise unreadable(op, response.status_code, response.headers, b"", retry_after_max_s=0)
        return Answer(headers=response.headers, body=body)

    def _read(self, op: Op, response: httpx.Response, answer: Answer, read: Callable[[Answer], _T]) -> _T:
        try:
            return read(answer)
        except UnreadableError:
            raise unreadable(
                op,
                response.status_code,
                response.headers,
                answer.body[:ERROR_BYTES_MAX],
                retry_after_max_s=self._http.retry_after_max_s,
            ) from None

    @staticmethod
    async def _chunks(
        recording: Recording, response: httpx.Response, known_bytes: int, pace: Pace
    ) -> AsyncGenerator[bytes, None]:
        taken_bytes = 0
        with recording:
            try:
                async for chunk in response.aiter_raw():
                    taken_bytes += len(chunk)
                    if not pace.came(len(chunk)):
                        raise Transient(f"content: slower than {BYTES_PER_S_MIN} B/s", code="too_slow")
                    if taken_bytes > CONTENT_BYTES_MAX:
                        raise Rejected("content: larger than we take", code="content_too_large")
                    if taken_bytes > known_bytes:
                        yield chunk[max(0, known_bytes - taken_bytes + len(chunk)) :]
                    pace.wait()
            except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                # h11 compares with Content-Length, and knows the end of a chunked body
                raise Transient(f"content: broke off after {taken_bytes} bytes", code="truncated") from error


async def read_body(response: httpx.Response, bytes_max: int) -> bytes:
    """The body, or so much of it that it is more than `bytes_max`."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > bytes_max:
            break
    return bytes(body)
