"""Rules about one region: the form of its address, its API version, its credential."""

import datetime as dt
import ipaddress
import re
import urllib.parse
from collections.abc import Sequence

from groupage_worker.settings import RegionSettings

API_VERSION_FIRST = dt.date(2024, 7, 1)
"""2024-07-01-preview is the first version with batches (azure-batch.md 1.5, 2026-11-20)."""

API_VERSION_EXPIRY = dt.date(2025, 3, 1)
"""Earlier versions accept a file expiry and ignore it (azure-batch.md 1.5, 2026-11-20)."""

FILES_WITHOUT_EXPIRY_MAX = 500
"""Input files of a resource when they do not expire (azure-batch.md 6.1, 2026-11-20)."""

FILES_WITH_EXPIRY_MAX = 10_000
"""Input files of a resource when they expire (azure-batch.md 6.1, 2026-11-20)."""

_API_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?")
_REGIONAL_HOST = ".api.cognitive.microsoft.com"
_AZURE_HOSTS = (
    ".openai.azure.com",
    ".openai.azure.us",
    ".services.ai.azure.com",
    ".cognitiveservices.azure.com",
)
_OPERATIONS = re.compile(r"/(chat|responses|completions|files|batches|deployments)(/|$)")
"""Paths that belong to single calls; in an endpoint they make every call a 404 (azure-batch.md 1.1, 7.1)."""


def is_loopback(host: str | None) -> bool:
    """Whether a host name is this machine's own, without asking a resolver."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def canonical(endpoint: str) -> str:
    """The resource behind an endpoint, so that two spellings of one address compare equal."""
    parts = urllib.parse.urlsplit(endpoint.strip())
    return f"{parts.netloc.lower()}{parts.path.rstrip('/')}"


def problems(
    place: str, region: RegionSettings, *, allow_plain: bool, hosts: Sequence[str] = ()
) -> list[str]:
    """What is wrong with one region, one sentence each.

    Args:
        place: Its path in the settings, such as `regions.east`.
        region: The region.
        allow_plain: Whether http:// is accepted beyond loopback.
        hosts: Hosts that an endpoint may have, or what they end in; empty: any.
    """
    return [
        *_address_problems(place, region, allow_plain=allow_plain),
        *_host_problems(place, region, hosts),
        *_version_problems(place, region),
        *_credential_problems(place, region),
    ]


def notes(place: str, region: RegionSettings) -> list[str]:
    """What is hardly meant in one region, one sentence each."""
    found = []
    parts = urllib.parse.urlsplit(region.endpoint)
    host = parts.hostname or ""
    if region.api != "openai" and host.endswith(_REGIONAL_HOST):
        found.append(
            f"{place}.endpoint: {host} is a regional address, which does not serve batches; give the resource a "
            "custom subdomain and use https://RESOURCE.openai.azure.com",
        )
    elif region.api != "openai" and not host.endswith(_AZURE_HOSTS) and not is_loopback(host):
        found.append(
            f"{place}.endpoint: {host} is not an Azure OpenAI host; right only for a gateway or an emulator"
        )
    version = _version_date(region)
    if version is not None and version < API_VERSION_EXPIRY:
        found.append(
            f"{place}.api_version: versions before {API_VERSION_EXPIRY}-preview ignore the expiry of files, so the "
            f"resource holds at most {FILES_WITHOUT_EXPIRY_MAX} input files",
        )
    return found


def files_max(region: RegionSettings, *, has_expiry: bool) -> int | None:
    """How many input files a resource may hold; None where no cap is known, as at OpenAI.

    Args:
        region: Its settings.
        has_expiry: Whether files are uploaded with an expiry.
    """
    if region.api == "openai":
        return None
    version = _version_date(region)
    honours_expiry = version is None or version >= API_VERSION_EXPIRY
    return FILES_WITH_EXPIRY_MAX if has_expiry and honours_expiry else FILES_WITHOUT_EXPIRY_MAX


def _address_problems(place: str, region: RegionSettings, *, allow_plain: bool) -> list[str]:
    """What is wrong with the endpoint's form; the address itself is repeated only where it can hold no secret."""
    here = f"{place}.endpoint"
    try:
        parts = urllib.parse.urlsplit(region.endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return [f"{here}: is not an address; use https://RESOURCE.openai.azure.com"]
    if parts.scheme not in {"https", "http"} or not host:
        return [f"{here}: must be an address with its scheme, such as https://RESOURCE.openai.azure.com"]
    found = []
    if parts.scheme == "http" and not is_loopback(host) and not allow_plain:
        found.append(
            f"{here}: http:// would send the key in the clear; use https:// (http.allow_plain is for an emulator)",
        )
    if parts.username is not None or parts.password is not None:
        found.append(f"{here}: must hold no user or password; credentials go into api_key_file or entra")
    if parts.query or parts.fragment:
        found.append(f"{here}: must end before '?' and '#'; the API version goes into api_version")
    path = parts.path.rstrip("/")
    if region.api != "openai" and path:
        found.append(f"{here}: must be the bare resource without the path {path}, which groupage adds itself")
    elif _OPERATIONS.search(path):
        found.append(
            f"{here}: {path} is the path of single calls; end it at the base, such as https://HOST/v1"
        )
    if region.api == "openai" and host.endswith(_AZURE_HOSTS):
        found.append(f"{place}.api: {host} is an Azure host; use azure-v1 (or azure-dated) instead of openai")
    if region.api != "openai" and host == "api.openai.com":
        found.append(f"{place}.api: {host} is not Azure; use openai and https://api.openai.com/v1")
    return found


def _host_problems(place: str, region: RegionSettings, hosts: Sequence[str]) -> list[str]:
    """Whether the endpoint's host is among those that may be called."""
    try:
        host = urllib.parse.urlsplit(region.endpoint).hostname or ""
    except ValueError:
        # told by the check of the address
        return []
    if not hosts or any(host.endswith(one) if one.startswith(".") else host == one for one in hosts):
        return []
    return [f"{place}.endpoint: {host} is not among http.hosts, which allows {', '.join(hosts)}"]


def _version_date(region: RegionSettings) -> dt.date | None:
    """The date in the API version, None where there is none or it is malformed."""
    match = _API_VERSION.fullmatch(region.api_version or "")
    if match is None:
        return None
    try:
        return dt.date.fromisoformat(match.group(1))
    except ValueError:
        return None


def _version_problems(place: str, region: RegionSettings) -> list[str]:
    """What is wrong with the API version."""
    here = f"{place}.api_version"
    if region.api != "azure-dated":
        if region.api_version is None:
            return []
        return [f"{here}: goes only with api: azure-dated; leave it out with {region.api}, or change api"]
    if region.api_version is None:
        return [f"{here}: is missing; api: azure-dated needs it, such as 2025-03-01-preview"]
    date = _version_date(region)
    if date is None:
        return [
            f"{here} = {region.api_version[:40]}: must be a date such as 2024-10-21 or 2025-03-01-preview"
        ]
    if date < API_VERSION_FIRST:
        return [
            f"{here} = {region.api_version}: knows no batches; the first that does is {API_VERSION_FIRST}-preview"
        ]
    return []


def _credential_problems(place: str, region: RegionSettings) -> list[str]:
    """Whether there is exactly one credential."""
    given = [
        name
        for name, is_set in (
            ("api_key", region.api_key is not None),
            ("api_key_file", region.api_key_file is not None),
            ("entra", region.entra),
        )
        if is_set
    ]
    if not given:
        return [f"{place}: has no credential; set one of api_key_file, api_key and entra"]
    found = []
    if len(given) > 1:
        found.append(f"{place}: has {' and '.join(given)}; leave exactly one credential")
    if region.api_key is not None:
        key = region.api_key.get_secret_value()
        if not key.strip():
            found.append(f"{place}.api_key: is empty")
        elif " " in key or not key.isascii() or not key.isprintable():
            found.append(f"{place}.api_key: holds spaces or characters that no key has; copy it again")
    if region.entra and region.api == "openai":
        found.append(f"{place}.entra: works with Azure only; the openai profile needs api_key_file")
    return found
