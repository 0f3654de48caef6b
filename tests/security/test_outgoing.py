"""What a worker calls: only the hosts of its settings, never a redirect's, never through a proxy unless told."""

import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_emulator import Config, Emulator
from groupage_worker.azure.client import AzureClient
from groupage_worker.endpoints import problems
from groupage_worker.errors import Transient
from groupage_worker.settings import HttpSettings, RegionSettings
from tests.support.clock import ManualClock


def region(endpoint: str) -> RegionSettings:
    return RegionSettings(endpoint=endpoint, location="eastus", api_key="k")  # type: ignore[arg-type] # as a file gives it


@pytest.mark.parametrize(
    ("host", "hosts", "is_allowed"),
    [
        ("contoso.openai.azure.com", (), True),
        ("contoso.openai.azure.com", (".openai.azure.com",), True),
        ("contoso.openai.azure.com", ("contoso.openai.azure.com",), True),
        ("other.openai.azure.com", ("contoso.openai.azure.com",), False),
        ("evilopenai.azure.com", (".openai.azure.com",), False),
        ("contoso.openai.azure.com.evil.example", (".openai.azure.com",), False),
        ("CONTOSO.openai.azure.com", (".openai.azure.com",), True),
        ("openai.azure.com", (".openai.azure.com",), False),
    ],
)
def test_hosts_are_allowed_by_name(host: str, hosts: tuple[str, ...], is_allowed: bool) -> None:
    """With a list, an endpoint elsewhere keeps a worker from starting; a dot in front allows what is below."""
    found = problems("regions.east", region(f"https://{host}"), allow_plain=False, hosts=hosts)
    assert (found == []) is is_allowed
    if found:
        assert "http.hosts" in found[0]


@given(st.from_regex(r"[a-z0-9.-]{1,40}", fullmatch=True))
def test_whatever_is_allowed_ends_in_the_list(host: str) -> None:
    """No host passes that is neither listed nor below a listed one."""
    hosts = (".openai.azure.com", "gate.example")
    found = problems("regions.east", region(f"https://{host}"), allow_plain=False, hosts=hosts)
    if not any("http.hosts" in one for one in found) and not any(
        "must be an address" in one for one in found
    ):
        assert host == "gate.example" or host.endswith(".openai.azure.com")


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(Config(clock="manual")) as emulator:
        yield emulator


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable that names a proxy names a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


async def listed(emulator: Emulator, http: HttpSettings) -> int:
    one = emulator.regions["eastus"]

    async def at_once(seconds: float) -> None:
        """No time passes between tries."""

    settings = RegionSettings(endpoint=one.base_url, location="eastus", api_key=one.key)  # type: ignore[arg-type] # as a file gives it
    client = AzureClient("east", settings, http, clock=ManualClock(), sleep=at_once)
    try:
        return len([file async for file in client.list_files()])
    finally:
        await client.aclose()


async def test_proxies_of_the_environment_are_not_used(emulator: Emulator, dead_proxy: None) -> None:
    """A proxy that the environment names sees nothing of a call, key included, unless http.trust_env is on."""
    assert await listed(emulator, HttpSettings()) == 0
    with pytest.raises(Transient):
        await listed(emulator, HttpSettings(trust_env=True))
