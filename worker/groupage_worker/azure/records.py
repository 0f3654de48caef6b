"""One record, and one log line, of every HTTP call: never a header, body, key or query."""

import dataclasses
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import httpx
import structlog

from groupage.clock import Clock
from groupage_worker.azure.faults import Op, lost
from groupage_worker.errors import WorkerError

_HEADER_CHARS_MAX: Final = 64
_log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One HTTP call, for metrics.

    Attributes:
        region: The region's `location`.
        status: HTTP status; None where no answer came.
        error_code: Code of the error raised, `aborted` where we gave up ourselves; None for a success.
        seconds: Duration, transfer included.
    """

    op: Op
    region: str
    status: int | None
    error_code: str | None
    seconds: float


class Recording:
    """Watches one call: turns a broken connection into our error, and reports how the call ended.

    Attributes:
        response: The answer, once there is one.
        goes_on: Set inside the `with` of a call whose body is read in a second `with`; cleared by its end.
    """

    def __init__(
        self, op: Op, *, name: str, location: str, clock: Clock, on_call: Callable[[CallRecord], None] | None
    ) -> None:
        self._op, self._name, self._location = op, name, location
        self._clock, self._on_call = clock, on_call
        self._started_s = clock.monotonic_s()
        self.response: httpx.Response | None = None
        self.goes_on = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report the end.

        Raises:
            Transient: Instead of an error of the connection, and where the call may be made again.
            Unclear: The same for a create that may have been carried out.
        """
        if error is None and self.goes_on:
            self.goes_on = False
            return
        if isinstance(error, httpx.RequestError | TimeoutError):
            failure = lost(self._op, error)
            self._report(failure.code)
            raise failure from error
        if isinstance(error, WorkerError):
            self._report(error.code)
        else:
            self._report(None if error is None else "aborted")

    def _report(self, code: str | None) -> None:
        seconds = self._clock.monotonic_s() - self._started_s
        status = None if self.response is None else self.response.status_code
        fields = {
            "op": self._op.value,
            "region": self._name,
            "status": status,
            "seconds": round(seconds, 3),
            "request_id": self._header("apim-request-id"),
            "served_by": self._header("x-ms-region"),
        }
        if code is None:
            _log.debug("azure.call", **fields)
        else:
            _log.warning("azure.call_failed", **fields, code=code)
        if self._on_call is not None:
            self._on_call(
                CallRecord(
                    op=self._op, region=self._location, status=status, error_code=code, seconds=seconds
                )
            )

    def _header(self, name: str) -> str | None:
        value = None if self.response is None else self.response.headers.get(name)
        return None if value is None else value[:_HEADER_CHARS_MAX]
