import builtins
import os

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError

from groupage_worker.azure.auth import AzureIdentity, Credential, EntraToken, credential_of
from groupage_worker.errors import ConfigurationError, CredentialsRejected
from groupage_worker.settings import RegionSettings

BASE = httpx.URL("https://host.example/openai/v1")


class Tokens:
    """Hands out numbered tokens that live for an hour; stands in for Entra ID, which tests cannot reach."""

    def __init__(self, clock, life_s=3600):
        self.clock, self.life_s, self.given, self.failure = clock, life_s, 0, None
        self.is_closed = False

    async def get_token(self, scope):
        """The next token."""
        if self.failure is not None:
            raise self.failure
        self.given += 1
        self.token = f"{scope}#{self.given}"
        self.expires_on = self.clock.now_ms() // 1000 + self.life_s
        return self

    async def close(self):
        """Remember it."""
        self.is_closed = True


def _region(**fields):
    return RegionSettings(endpoint="https://host.example", location="eastus", **fields)


async def _first(credential, url="https://host.example/openai/v1/files"):
    flow = credential.async_auth_flow(httpx.Request("GET", url))
    request = await anext(flow)
    return flow, request


async def _after_401(flow, request):
    try:
        return await flow.asend(httpx.Response(401, request=request))
    except StopAsyncIteration:
        return None


@pytest.mark.parametrize(
    ("api", "header", "value"), [("azure-v1", "api-key", "k"), ("openai", "authorization", "Bearer k")]
)
async def test_a_key_travels_in_the_header_of_its_api(clock, api, header, value):
    """Azure takes `api-key`, OpenAI a bearer."""
    _, request = await _first(credential_of("east", _region(api=api, api_key="k"), clock, BASE))
    assert request.headers[header] == value


async def test_a_fixed_key_is_not_tried_twice(clock):
    """Where no other secret can come, a 401 stands."""
    flow, request = await _first(credential_of("east", _region(api_key="k"), clock, BASE))
    assert await _after_401(flow, request) is None


async def test_a_changed_key_file_is_noticed(clock, tmp_path):
    """A rotated key is used from the next call on, without a restart."""
    file = tmp_path / "key"
    file.write_text("old\n")
    credential = credential_of("east", _region(api_key_file=file), clock, BASE)
    assert (await _first(credential))[1].headers["api-key"] == "old"
    file.write_text("brand-new\n")
    assert (await _first(credential))[1].headers["api-key"] == "brand-new"


async def test_a_401_reads_the_key_file_whatever_its_time(clock, tmp_path):
    """A file that changed without showing it is read after a refusal, and the call is made once more."""
    file = tmp_path / "key"
    file.write_text("old")
    credential = credential_of("east", _region(api_key_file=file), clock, BASE)
    flow, request = await _first(credential)
    before = file.stat()
    file.write_text("new")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = await _after_401(flow, request)
    assert again.headers["api-key"] == "new"
    assert await _after_401(flow, again) is None


async def test_a_missing_key_file_is_a_matter_of_credentials(clock, tmp_path):
    """It costs no attempt: the same as a refused key, and the path stays out of the message."""
    credential = credential_of("east", _region(api_key_file=tmp_path / "absent"), clock, BASE)
    with pytest.raises(CredentialsRejected) as caught:
        await _first(credential)
    assert caught.value.code == "key_unreadable"
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://other.example/x", "http://host.example/x", "https://host.example:8443/x"]
)
async def test_a_secret_never_goes_to_another_host(clock, url):
    """Scheme, host and port must be those of the settings."""
    credential = credential_of("east", _region(api_key="k"), clock, BASE)
    with pytest.raises(ConfigurationError):
        await _first(credential, url)


def test_a_region_without_credentials_is_refused(clock):
    """The sentence names the settings that are missing."""
    with pytest.raises(ConfigurationError, match="api_key"):
        credential_of("east", _region(), clock, BASE)


def test_secrets_show_in_no_repr(clock):
    """Neither the credential nor what it holds prints a key."""
    credential = credential_of("east", _region(api_key="canary"), clock, BASE)
    assert "canary" not in repr(credential) + repr(vars(credential)) + repr(vars(credential._secret))


async def test_a_token_is_kept_for_four_fifths_of_its_life(clock):
    """It is asked for once, and again when 80 % of its life are over."""
    tokens = Tokens(clock)
    secret = EntraToken(tokens, "scope", clock)
    assert await secret.current() == await secret.current() == "scope#1"
    clock.advance(0.8 * 3600 - 1)
    assert await secret.current() == "scope#1"
    clock.advance(1)
    assert await secret.current() == "scope#2"


async def test_a_valid_token_outlives_a_login_outage(clock):
    """Where no new token can be had, the old one is used to the end of its life and not beyond."""
    tokens = Tokens(clock)
    secret = EntraToken(tokens, "scope", clock)
    await secret.current()
    tokens.failure = CredentialsRejected("down", code="token_unavailable")
    clock.advance(3500)
    assert await secret.current() == "scope#1"
    clock.advance(100)
    with pytest.raises(CredentialsRejected):
        await secret.current()


async def test_a_401_renews_the_token_once(clock):
    """The call is made again with a new token, and a second 401 stands."""
    tokens = Tokens(clock)
    credential = Credential(EntraToken(tokens, "scope", clock), header="authorization", base=BASE)
    flow, request = await _first(credential)
    assert request.headers["authorization"] == "Bearer scope#1"
    again = await _after_401(flow, request)
    assert again.headers["authorization"] == "Bearer scope#2"
    assert await _after_401(flow, again) is None
    assert tokens.given == 2


async def test_many_refusals_fetch_one_token(clock):
    """Calls refused with the same token share its successor."""
    tokens = Tokens(clock)
    secret = EntraToken(tokens, "scope", clock)
    refused = await secret.current()
    assert {await secret.renewed(refused) for _ in range(5)} == {"scope#2"}
    assert tokens.given == 2


async def test_a_failing_login_is_a_matter_of_credentials():
    """Errors of azure-identity come out as ours, without its text, which names tenants and hosts."""

    class Refusing:
        async def get_token(self, scope):
            raise ClientAuthenticationError(message="canary-tenant")

        async def close(self):
            """Nothing to free."""

    source = AzureIdentity(Refusing(), ClientAuthenticationError)
    with pytest.raises(CredentialsRejected) as caught:
        await source.get_token("scope")
    assert caught.value.code == "token_unavailable"
    assert "canary" not in str(caught.value)
    await source.close()


async def test_entra_loads_its_library(clock):
    """With the extra installed the credential is made and can be closed without a call."""
    await credential_of("east", _region(entra=True), clock, BASE).close()


def test_a_missing_extra_is_one_helpful_sentence(clock, monkeypatch):
    """Whoever asks for Entra without its library is told what to install."""
    real = builtins.__import__

    def without_azure(name, *args, **kwargs):
        if name.startswith("azure."):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_azure)
    with pytest.raises(ConfigurationError, match=r"pip install 'groupage\[worker,entra\]'"):
        credential_of("east", _region(entra=True), clock, BASE)
