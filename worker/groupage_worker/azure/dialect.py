"""How the three kinds of API differ: addresses, `url` of lines, and what they honour (azure-batch.md 1.1, 1.5, 3)."""

import dataclasses
import re
from typing import Final, Literal

import httpx

from groupage.contract import Endpoint
from groupage_worker.errors import ConfigurationError
from groupage_worker.settings import RegionSettings

EXPIRY_SINCE: Final = "2025-03-01"
"""Earlier api-versions take an expiry and ignore it (azure-sdk-for-js#36931; azure-batch.md 1.5, 2026-11-20)."""

FILE_PAGES_SINCE: Final = "2025-04-01"
"""Earlier api-versions list all files at once (reference of 2025-04-01-preview; azure-batch.md 2.3, 2026-11-20)."""

_INFERENCE_PATH = re.compile(r"/openai(/v1)?/?$")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One region's way of speaking.

    Attributes:
        base: Base URL without a slash at its end.
        params: Query of every call.
        honours_expiry: Whether files may be given an expiry.
        pages_files: Whether the list of files comes in pages.
    """

    api: Literal["azure-v1", "azure-dated", "openai"]
    base: httpx.URL
    params: dict[str, str]
    honours_expiry: bool
    pages_files: bool

    def line_url(self, endpoint: Endpoint) -> str:
        """What goes into `url` of each line.

        Args:
            endpoint: Of the lane.
        """
        if endpoint is Endpoint.RESPONSES:
            return "/v1/responses"
        return "/chat/completions" if self.api == "azure-dated" else "/v1/chat/completions"

    def create_endpoint(self, endpoint: Endpoint) -> str:
        """What goes into `endpoint` of a create.

        Every Azure sample says `/chat/completions`, also for files of `/v1/responses` lines: the service reads
        the file to choose (D26-py, any-llm#1348; azure-batch.md 3, 2026-11-20). OpenAI compares it with the lines.

        Args:
            endpoint: Of the lane.
        """
        return self.line_url(endpoint) if self.api == "openai" else "/chat/completions"


def dialect_of(name: str, region: RegionSettings) -> Dialect:
    """The way a region speaks.

    Args:
        name: The region's name, for the sentence of the error.
        region: Its settings. An endpoint that ends in `/openai` or `/openai/v1` is understood too.

    Raises:
        ConfigurationError: If its endpoint is no plain URL, or its api_version is missing or out of place.
    """
    dated = region.api == "azure-dated"
    try:
        url = httpx.URL(region.endpoint.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ConfigurationError([f"regions.{name}.endpoint: no URL ({error})"]) from error
    problems = []
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query or url.fragment:
        problems.append(f"regions.{name}.endpoint: must be https://HOST, without user, query or fragment")
    if dated != bool(region.api_version):
        problems.append(f"regions.{name}.api_version: always with azure-dated, and only there")
    if problems:
        raise ConfigurationError(problems)
    if region.api != "openai":
        path = _INFERENCE_PATH.sub("", url.path.rstrip("/"))
        url = url.copy_with(path=path + ("/openai" if dated else "/openai/v1"))
    version = region.api_version or ""
    return Dialect(
        api=region.api,
        base=url,
        params={"api-version": version} if dated else {},
        # The date decides: a preview and the version of the same day honour the same
        honours_expiry=not dated or version >= EXPIRY_SINCE,
        pages_files=not dated or version >= FILE_PAGES_SINCE,
    )
