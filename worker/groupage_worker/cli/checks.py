"""What `groupage-worker check` tests: harmless calls to Redis and to every region, each result in one sentence."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal, Protocol

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from groupage.clock import SystemClock
from groupage.connect import connect, disconnect, redact
from groupage_worker import serverinfo
from groupage_worker.azure.client import AzureClient
from groupage_worker.azure.verdicts import row_of
from groupage_worker.configfile import Loaded
from groupage_worker.errors import (
    ConfigurationError,
    CredentialsRejected,
    NotFound,
    RegionUnavailable,
    Transient,
    WorkerError,
)
from groupage_worker.settings import HttpSettings, RegionSettings, Settings

REGION_S_MAX = 60.0
"""Longest look at one region, seconds, retries included; a person waits for the answer."""

_NOT_REACHED = frozenset({"connect", "connection_lost", "timeout"})


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tested or noticed.

    Attributes:
        level: `problem`: a worker would not work; `note`: it would; `ok`.
        subject: What it is about, such as `redis.data` or `regions.east`.
        text: One sentence; of a problem, what to change.
    """

    level: Literal["ok", "note", "problem"]
    subject: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return dataclasses.asdict(self)


class ServiceClient(Protocol):
    """What the check needs of a region's client."""

    def list_batches(self, *, limit: int = 100) -> AsyncIterator[object]:
        """All batches of the resource, `limit` a page."""
        ...

    def list_files(self) -> AsyncIterator[object]:
        """All files of the resource."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


MakeClient = Callable[[str, RegionSettings, HttpSettings], ServiceClient]


def azure_client(name: str, region: RegionSettings, http: HttpSettings) -> ServiceClient:
    """The client that a worker uses."""
    return AzureClient(name, region, http, clock=SystemClock())


async def check(loaded: Loaded, make_client: MakeClient = azure_client) -> list[Finding]:
    """Test everything that the settings name.

    Args:
        loaded: Settings that can work.
        make_client: Makes the client of a region.

    Returns:
        Problems and notes and what went well, in the order of the settings.
    """
    settings = loaded.settings
    found = [Finding("note", note.partition(":")[0], note) for note in loaded.notes]
    for part in await asyncio.gather(
        _check_redis(settings, "data"),
        _check_redis(settings, "control"),
        *(
            _check_region(name, region, settings.http, make_client)
            for name, region in settings.regions.items()
        ),
    ):
        found += part
    return found


async def _check_redis(settings: Settings, role: serverinfo.Role) -> list[Finding]:
    """Connect to one server and judge what it says of itself."""
    subject = f"redis.{role}"
    secret = settings.redis.control if role == "control" else settings.redis.data
    url = secret.get_secret_value()
    client: Redis = connect(url, socket_timeout_s=settings.redis.socket_timeout_s)
    try:
        facts = await serverinfo.inspect(client)
    except (RedisError, OSError) as error:
        return [Finding("problem", subject, explain_redis(error, role, redact(url)))]
    finally:
        await disconnect(client)
    memory_bytes = settings.redis.memory_bytes[role]
    problems = serverinfo.problems(facts, role)
    notes = serverinfo.notes(facts, role, memory_bytes=memory_bytes)
    level: Literal["note", "problem"] = "note" if settings.redis.allow_unsafe else "problem"
    return [
        *(Finding(level, subject, text) for text in problems),
        *(Finding("note", subject, text) for text in notes),
        *(
            []
            if problems
            else [Finding("ok", subject, f"redis {role} server: {facts.name} at {redact(url)}")]
        ),
    ]


def explain_redis(error: Exception, role: serverinfo.Role, address: str) -> str:
    """Why a Redis server cannot be used, in one sentence; never the library's text, which may hold the password.

    Args:
        error: What the client raised.
        role: Which of the two URLs it stands behind.
        address: The URL without its credentials.
    """
    here = f"redis {role} server at {address}"
    match error:
        case AuthenticationError():
            return f"{here}: refuses the user or password in redis.{role}_url; '@', ':' and '/' in it as %40, %3A, %2F"
        case NoPermissionError():
            return f"{here}: the user may not run INFO and TIME; allow both in its ACL"
        case ResponseError() if "NOAUTH" in str(error) or "WRONGPASS" in str(error):
            return f"{here}: asks for a password; put it into redis.{role}_url, or better into redis.{role}_url_file"
        case RedisTimeoutError() | TimeoutError():
            return f"{here}: does not answer in time; check the address, firewalls, and rediss:// where it wants TLS"
        case ResponseError():
            return f"{here}: answers but refuses INFO; check that it is Redis or Valkey"
        case _:
            return f"{here}: cannot be reached; check host, port, TLS (rediss://) and that it runs"


async def _check_region(
    name: str, region: RegionSettings, http: HttpSettings, make_client: MakeClient
) -> list[Finding]:
    """List one file and one batch of a region."""
    place = f"regions.{name}"
    try:
        client = make_client(name, region, http)
    except ConfigurationError as error:
        return [Finding("problem", place, problem) for problem in error.problems]
    found = []
    try:
        async with asyncio.timeout(REGION_S_MAX):
            for what, items in (
                ("files", client.list_files),
                ("batches", lambda: client.list_batches(limit=1)),
            ):
                try:
                    await _first(items())
                except WorkerError as error:
                    found.append(Finding("problem", place, explain(error, place, region, what)))
    except TimeoutError:
        found.append(
            Finding("problem", place, f"{place}: gave no answer in {REGION_S_MAX:g} s; check the network")
        )
    finally:
        await client.aclose()
    # one broken credential or address makes both calls fail with the same sentence
    unique = list(dict.fromkeys(found))
    return unique or [Finding("ok", place, f"{place}: {region.endpoint} lists files and batches")]


async def _first(items: AsyncIterator[object]) -> None:
    """Read at most one entry of a list."""
    async with contextlib.AsyncExitStack() as stack:
        if hasattr(items, "aclose"):
            stack.push_async_callback(items.aclose)
        await anext(items, None)


def explain(error: WorkerError, place: str, region: RegionSettings, what: str) -> str:
    """Why a region cannot be used, and what to change, in one sentence.

    Args:
        error: What the client raised.
        place: Path of the region in the settings.
        region: The region.
        what: What was listed.
    """
    code = error.code
    if isinstance(error, CredentialsRejected):
        return f"{place}: {' '.join(_credential_words(place, region, code))}"
    if isinstance(error, Transient) and code in _NOT_REACHED:
        return (
            f"{place}.endpoint: {region.endpoint} cannot be reached ({code}); check its name, DNS, firewalls and private "
            "endpoints, and http.trust_env if a proxy is needed"
        )
    if isinstance(error, NotFound | RegionUnavailable) and code != "redirected":
        version = f", api_version {region.api_version}" if region.api_version else ""
        return (
            f"{place}: the service has no such path ({code}); check the endpoint {region.endpoint} and api "
            f"{region.api}{version}"
        )
    if isinstance(error, Transient):
        return f"{place}: is there but cannot list {what} now ({code}); try again in a minute"
    row = row_of(code)
    sentence = row.sentence if row is not None else "The service refused the call."
    return f"{place}: listing {what} failed ({code}): {sentence}"


def _credential_words(place: str, region: RegionSettings, code: str) -> Iterator[str]:
    """Which credential was refused, and what to look at."""
    if region.entra:
        if code == "token_unavailable":
            yield "Entra ID gave no token; check the workload identity or `az login` of this process"
        else:
            yield f"the service refused the Entra token ({code}); give the identity the role Cognitive Services OpenAI"
            yield f"User on this resource, and check {place}.entra_scope"
        return
    setting = "api_key_file" if region.api_key_file is not None else "api_key"
    if "403" in code or code.lower() == "forbidden":
        yield f"the service knows the key but refuses it ({code}); check network rules of the resource and {place}.{setting}"
    else:
        yield f"the service refused the key ({code}); put a key of the resource behind {region.endpoint} into"
        yield f"{place}.{setting}"
