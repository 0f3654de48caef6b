"""Single calls to an online deployment: one POST, and what is known of it afterwards."""

import asyncio
import dataclasses
from typing import Final, Literal

import httpx
import msgspec

from groupage.contract import Endpoint
from groupage_worker.azure.calls import ANSWER_BYTES_MAX, Caller, read_body
from groupage_worker.azure.faults import NOT_OPENED, Op, retry_after_s
from groupage_worker.errors import WorkerError

NOT_TAKEN: Final = frozenset({401, 403, 404, 429, 503})
"""Answers which say that the request was not worked on, so that asking again cannot be paid twice. 408 and other 5xx
leave that open; other 4xx are answers (azure-batch.md 7.1, 2026-11-20)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What became of one call.

    Attributes:
        outcome: `answered`; `refused`: not worked on, so not paid; `unclear`: it may have been.
        status: HTTP status; None where no answer came.
        body: Of an answer.
        retry_after_s: Seconds that the service asked to wait; None where it named none.
    """

    outcome: Literal["answered", "refused", "unclear"]
    status: int | None = None
    body: bytes = b""
    retry_after_s: float | None = None


class OnlineCaller(Caller):
    """Calls to one region, single requests included."""

    async def ask(self, *, model: str, endpoint: Endpoint, body: bytes, timeout_s: float) -> Asked:
        """Ask once, never twice, over a connection of its own.

        Args:
            model: Deployment name.
            endpoint: Of the lane.
            body: Canonical body without `model`.
            timeout_s: For the whole answer.
        """
        request = self._fresh.build_request(
            "POST",
            f"{self._dialect.base}{self._online_path(endpoint, model)}",
            params=self._dialect.params,
            content=b'{"model":%b,%b' % (msgspec.json.encode(model), body[1:]),
            headers={"content-type": "application/json"},
            timeout=self._timeout(timeout_s),
        )
        try:
            with self._recording(Op.ONLINE) as recording:
                async with (
                    asyncio.timeout(timeout_s),
                    self._sent(self._fresh, request, recording) as response,
                ):
                    return self._asked(response, await read_body(response, ANSWER_BYTES_MAX))
        except WorkerError as error:
            is_sent = not isinstance(error.__cause__, NOT_OPENED)
            return Asked(outcome="unclear" if is_sent else "refused")

    def _online_path(self, endpoint: Endpoint, model: str) -> str:
        if endpoint is Endpoint.RESPONSES:
            return "/responses"
        is_dated = self._dialect.api == "azure-dated"
        return f"/deployments/{model}/chat/completions" if is_dated else "/chat/completions"

    def _asked(self, response: httpx.Response, body: bytes) -> Asked:
        status = response.status_code
        if status in NOT_TAKEN:
            wait_s = retry_after_s(response.headers, "", max_s=self._http.retry_after_max_s)
            return Asked(outcome="refused", status=status, retry_after_s=wait_s)
        if status == 408 or not 200 <= status < 500 or len(body) > ANSWER_BYTES_MAX:
            return Asked(outcome="unclear", status=status)
        return Asked(outcome="answered", status=status, body=body)
