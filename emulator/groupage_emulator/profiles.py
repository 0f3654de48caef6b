"""What differs between api-versions (section 11 of `reference/azure-batch.md`, 2026-11-20), and which one a path means.

A region answers all of them at once: `/openai/v1/...` is `v1`, `/v1/...` is OpenAI's own, `/openai/...` is dated and
needs a known `api-version`.
"""

import re
from dataclasses import dataclass
from typing import Literal

import msgspec


class Profile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How one api-version speaks; every field can be changed per region in the configuration.

    Attributes:
        name: As in the configuration.
        is_azure: Content filters, E1/E5 envelopes, normalised endpoints.
        iso_times: ISO-8601 timestamps with 7 digits instead of Unix seconds.
        capital_status: `Completed` instead of `completed`.
        null_counts: Members of `request_counts` null until known.
        null_endpoint: `endpoint` null, as in July-2024 samples.
        list_key: Name of the list's array.
        list_object: Whether lists carry `object` and the cursor fields.
        odata: Whether `$filter` and `$orderby` work.
        quota_headers: Whether creates carry the enqueued-token headers.
        fail_fast: Whether the quota is checked at POST, in regions that do.
        files_pending: Whether a new file is pending for a while.
        honours_expiry: Whether file expiry is honoured.
        cap_counts_outputs: Whether output files count for the cap of files.
        create_status: HTTP status of a create.
        empty_id: File id before there is one.
        empty_error_file: Error file of a run without errors.
        urls: Allowed `url` values of lines.
        has_line_id: Whether output rows have a top-level `id`.
        file_paging: Whether the file list knows `limit`, `after` and `order`.
        key_in: Headers in which a key is looked for.
    """

    name: str
    is_azure: bool = True
    iso_times: bool = False
    capital_status: bool = False
    null_counts: bool = False
    null_endpoint: bool = False
    list_key: Literal["data", "value"] = "data"
    list_object: bool = True
    odata: bool = False
    quota_headers: bool = False
    fail_fast: bool = False
    files_pending: bool = False
    honours_expiry: bool = False
    cap_counts_outputs: bool = False
    create_status: Literal[200, 201] = 200
    empty_id: Literal[""] | None = None
    empty_error_file: Literal["zero", "null", "empty"] = "zero"
    urls: tuple[str, ...] = ("/chat/completions", "/v1/chat/completions")
    has_line_id: bool = False
    file_paging: bool = False
    key_in: tuple[Literal["api-key", "bearer"], ...] = ("api-key",)


_V1_URLS = ("/chat/completions", "/v1/chat/completions", "/v1/responses", "/responses")

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="2024-07-01-preview",
            iso_times=True,
            capital_status=True,
            null_counts=True,
            null_endpoint=True,
            list_key="value",
            list_object=False,
            files_pending=True,
            cap_counts_outputs=True,
            urls=("/chat/completions",),
        ),
        Profile(name="2024-10-21", files_pending=True, cap_counts_outputs=True),
        Profile(
            name="2024-10-01-preview",
            files_pending=True,
            cap_counts_outputs=True,
            odata=True,
            quota_headers=True,
        ),
        Profile(
            name="2025",
            odata=True,
            quota_headers=True,
            fail_fast=True,
            honours_expiry=True,
            create_status=201,
            urls=_V1_URLS,
            file_paging=True,
        ),
        Profile(
            name="v1",
            quota_headers=True,
            fail_fast=True,
            honours_expiry=True,
            urls=_V1_URLS,
            file_paging=True,
            key_in=("api-key", "bearer"),
        ),
        Profile(
            name="openai",
            is_azure=False,
            honours_expiry=True,
            empty_error_file="null",
            urls=("/v1/chat/completions", "/v1/responses"),
            has_line_id=True,
            file_paging=True,
            key_in=("bearer",),
        ),
    )
}

VERSIONS = {
    "2024-07-01-preview": "2024-07-01-preview",
    "2024-08-01-preview": "2024-07-01-preview",
    "2024-09-01-preview": "2024-07-01-preview",
    "2024-10-01-preview": "2024-10-01-preview",
    "2024-10-21": "2024-10-21",
    "2024-12-01-preview": "2024-10-01-preview",
    "2025-01-01-preview": "2024-10-01-preview",
    "2025-02-01-preview": "2024-10-01-preview",
    "2025-03-01-preview": "2025",
    "2025-04-01-preview": "2025",
}

_V1_VERSIONS = (None, "v1", "preview", "latest")
_SLASHES = re.compile(r"/{2,}")


@dataclass(frozen=True, slots=True)
class Route:
    """A path taken apart: which profile speaks, and what is left of the path after the base."""

    profile: Profile
    rest: str


def route(
    path: str, version: str | None, changes: dict[str, dict[str, str | int | bool | None]]
) -> Route | None:
    """Finds the profile of a request; None means 404 E3.

    Args:
        path: Of the URL; doubled slashes are taken for one (section 1.1).
        version: The `api-version` of the query.
        changes: A region's changes to profiles.
    """
    path = _SLASHES.sub("/", path)
    if path.startswith("/openai/v1/"):
        name, rest = "v1", path.removeprefix("/openai/v1")
        if version not in _V1_VERSIONS:
            return None
    elif path.startswith("/openai/"):
        name, rest = VERSIONS.get(version or "", ""), path.removeprefix("/openai")
    elif path.startswith("/v1/"):
        name, rest = "openai", path.removeprefix("/v1")
    else:
        return None
    if not name:
        return None
    return Route(changed(PROFILES[name], changes), rest)


def changed(profile: Profile, changes: dict[str, dict[str, str | int | bool | None]]) -> Profile:
    """The profile with a region's changes."""
    mine = changes.get(profile.name)
    return msgspec.convert(msgspec.to_builtins(profile) | mine, Profile) if mine else profile
