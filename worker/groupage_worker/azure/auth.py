"""Credentials: an api key, a file that holds one, or Entra ID. None of them ever shows in a repr, a log or an error.

A secret is attached only to requests for the configured host. A 401 renews the secret once and repeats the call;
this holds for a create too, because a 401 is sure that nothing was created.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final, Protocol

import httpx
import structlog

from groupage.clock import Clock
from groupage_worker.errors import ConfigurationError, CredentialsRejected
from groupage_worker.settings import RegionSettings

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError
    from azure.identity.aio import DefaultAzureCredential

RENEW_AFTER_RATIO: Final = 0.8
"""A token is renewed after this share of its life (reliability.md 7.1)."""

TOKEN_S_MAX: Final = 15.0
"""Longest wait for a token: less than a call may take, so that a hanging login host never leaves a create unclear."""

_log = structlog.get_logger()


class Token(Protocol):
    """What Entra ID gives; `azure.core.credentials.AccessToken` is one."""

    @property
    def token(self) -> str:
        """The bearer token."""
        ...

    @property
    def expires_on(self) -> int:
        """Unix seconds."""
        ...


class TokenSource(Protocol):
    """Where tokens come from."""

    async def get_token(self, scope: str) -> Token:
        """Get a token for a scope.

        Raises:
            CredentialsRejected: If there is none to be had.
        """
        ...

    async def close(self) -> None:
        """Free connections."""
        ...


class Secret(Protocol):
    """A key or token that may change while we run."""

    async def current(self) -> str:
        """The secret to use now.

        Raises:
            CredentialsRejected: If there is none to be had.
        """
        ...

    async def renewed(self, refused: str) -> str | None:
        """Another secret than the one the service has just refused; None if there is no other."""
        ...

    async def close(self) -> None:
        """Free connections."""
        ...


class ApiKey:
    """A key from the settings, or from a file that is read again when it changes.

    Args:
        name: The region's name, for errors.
        region: Holds the key, or the path of its file.
    """

    def __init__(self, name: str, region: RegionSettings) -> None:
        self._name, self._region = name, region
        self._key: str | None = None
        self._version: tuple[int, int, int] | None = None

    async def current(self) -> str:
        """The key; its file is only looked at, unless it changed."""
        version = self._version_now()
        if self._key is None or version != self._version:
            self._key, self._version = self._read(), version
        return self._key

    async def renewed(self, refused: str) -> str | None:
        """What the file holds now, if that is another key."""
        self._key = self._read()
        return self._key if self._key != refused else None

    async def close(self) -> None:
        """Nothing to free."""

    def _version_now(self) -> tuple[int, int, int] | None:
        """Tells one content of the file from another; mounted secrets are swapped by a link, hence the inode."""
        path = self._region.api_key_file
        if path is None:
            return None
        try:
            found = path.stat()
        except OSError as error:
            raise self._unreadable() from error
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> str:
        try:
            key = self._region.key(self._name)
        except ConfigurationError as error:
            raise self._unreadable() from error
        if key is None:
            raise self._unreadable()
        return key.get_secret_value()

    def _unreadable(self) -> CredentialsRejected:
        return CredentialsRejected(f"region {self._name}: the api key cannot be read", code="key_unreadable")


class EntraToken:
    """A token of Entra ID, kept until 80 % of its life are over.

    Args:
        source: Where tokens come from.
        scope: What for.
        clock: Tells how old a token is.
    """

    def __init__(self, source: TokenSource, scope: str, clock: Clock) -> None:
        self._source, self._scope, self._clock = source, scope, clock
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._renew_at_ms = 0
        self._expires_at_ms = 0

    async def current(self) -> str:
        """The token; one that is due for renewal is still used where there is no other and it is still valid."""
        async with self._lock:
            now_ms = self._clock.now_ms()
            if self._token is not None and now_ms < self._renew_at_ms:
                return self._token
            try:
                return await self._fetch()
            except CredentialsRejected as error:
                if self._token is None or now_ms >= self._expires_at_ms:
                    raise
                _log.warning("azure.token_not_renewed", code=error.code)
                return self._token

    async def renewed(self, refused: str) -> str | None:
        """A new token, or the one that another call has got meanwhile."""
        async with self._lock:
            token = self._token if self._token not in {None, refused} else await self._fetch()
            return token if token != refused else None

    async def close(self) -> None:
        """Free the source's connections."""
        await self._source.close()

    async def _fetch(self) -> str:
        try:
            async with asyncio.timeout(TOKEN_S_MAX):
                token = await self._source.get_token(self._scope)
        except TimeoutError as error:
            raise CredentialsRejected("Entra ID gave no token in time", code="token_unavailable") from error
        now_ms = self._clock.now_ms()
        self._token, self._expires_at_ms = token.token, token.expires_on * 1000
        self._renew_at_ms = now_ms + int((self._expires_at_ms - now_ms) * RENEW_AFTER_RATIO)
        return token.token


class AzureIdentity:
    """Tokens from `azure-identity`: workload identity, managed identity, CLI, and so on."""

    def __init__(self, credential: "DefaultAzureCredential", failure: "type[AzureError]") -> None:
        self._credential, self._failure = credential, failure

    @classmethod
    def default(cls) -> "AzureIdentity":
        """Load the library.

        Raises:
            ConfigurationError: If the extra `entra` is not installed.
        """
        try:
            # Not at the top: only where api keys are switched off is the library needed
            from azure.core.exceptions import AzureError  # noqa: PLC0415 - see above
            from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - see above
        except ImportError as error:
            raise ConfigurationError(
                [f"entra: true needs the extra `entra`: pip install 'groupage[worker,entra]' ({error.name})"],
            ) from error
        return cls(DefaultAzureCredential(), AzureError)

    async def get_token(self, scope: str) -> Token:
        """Get a token for a scope."""
        try:
            return await self._credential.get_token(scope)
        except self._failure as error:
            # The library's text names tenants and hosts; its class is enough here, its own log has the rest
            raise CredentialsRejected(
                f"Entra ID gave no token ({type(error).__name__})", code="token_unavailable"
            ) from None

    async def close(self) -> None:
        """Free connections."""
        await self._credential.close()


class Credential(httpx.Auth):
    """Attaches the secret of one region to its requests.

    Args:
        secret: What to attach.
        header: `api-key`, or `authorization` for a bearer token.
        base: The region's base URL: only requests to its scheme, host and port get the secret.
    """

    def __init__(self, secret: Secret, *, header: str, base: httpx.URL) -> None:
        self._secret, self._header = secret, header
        self._origin = _origin(base)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send with the secret; after a 401 once more with another one, if there is one.

        Raises:
            ConfigurationError: If the request goes anywhere else than to the region.
            CredentialsRejected: If there is no secret to be had.
        """
        if _origin(request.url) != self._origin:
            raise ConfigurationError([f"a call to the host {request.url.host!r}, which is not configured"])
        secret = await self._secret.current()
        self._attach(request, secret)
        response = yield request
        if response.status_code == 401 and (other := await self._secret.renewed(secret)) is not None:
            self._attach(request, other)
            yield request

    async def close(self) -> None:
        """Free what the secret holds."""
        await self._secret.close()

    def _attach(self, request: httpx.Request, secret: str) -> None:
        request.headers[self._header] = secret if self._header == "api-key" else f"Bearer {secret}"


def credential_of(name: str, region: RegionSettings, clock: Clock, base: httpx.URL) -> Credential:
    """The credential that the settings of a region ask for.

    Raises:
        ConfigurationError: If they name none, or Entra ID without its library.
    """
    if region.entra:
        entra = EntraToken(AzureIdentity.default(), region.entra_scope, clock)
        return Credential(entra, header="authorization", base=base)
    if region.api_key is None and region.api_key_file is None:
        raise ConfigurationError([f"regions.{name}: needs api_key, api_key_file or entra"])
    header = "authorization" if region.api == "openai" else "api-key"
    return Credential(ApiKey(name, region), header=header, base=base)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
