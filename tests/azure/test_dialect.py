import pytest

from groupage.contract import Endpoint
from groupage_worker.azure.dialect import dialect_of
from groupage_worker.errors import ConfigurationError
from groupage_worker.settings import RegionSettings

HOST = "https://res.openai.azure.com"


def _dialect(endpoint=HOST, **fields):
    return dialect_of("east", RegionSettings(endpoint=endpoint, location="eastus", **fields))


@pytest.mark.parametrize(
    ("endpoint", "fields", "base"),
    [
        (HOST, {}, f"{HOST}/openai/v1"),
        (HOST + "/", {}, f"{HOST}/openai/v1"),
        (HOST + "/openai/v1/", {}, f"{HOST}/openai/v1"),
        (HOST + "/openai", {}, f"{HOST}/openai/v1"),
        ("https://gate.example/proxy", {}, "https://gate.example/proxy/openai/v1"),
        (HOST, {"api": "azure-dated", "api_version": "2024-10-21"}, f"{HOST}/openai"),
        (HOST + "/openai/v1", {"api": "azure-dated", "api_version": "2024-10-21"}, f"{HOST}/openai"),
        ("https://api.openai.com/v1/", {"api": "openai"}, "https://api.openai.com/v1"),
    ],
)
def test_the_base_is_built_from_the_endpoint(endpoint, fields, base):
    """A slash at the end, or a base pasted whole, makes no difference."""
    assert str(_dialect(endpoint, **fields).base) == base


@pytest.mark.parametrize(
    ("fields", "chat", "create"),
    [
        ({}, "/v1/chat/completions", "/chat/completions"),
        ({"api": "azure-dated", "api_version": "2024-10-21"}, "/chat/completions", "/chat/completions"),
        ({"api": "openai"}, "/v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_urls_follow_the_api(fields, chat, create):
    """Lines and creates name the endpoint as the documentation of each API does."""
    dialect = _dialect(**fields)
    assert dialect.line_url(Endpoint.CHAT) == chat
    assert dialect.create_endpoint(Endpoint.CHAT) == create
    assert dialect.line_url(Endpoint.RESPONSES) == "/v1/responses"
    wanted = "/v1/responses" if fields.get("api") == "openai" else "/chat/completions"
    assert dialect.create_endpoint(Endpoint.RESPONSES) == wanted


@pytest.mark.parametrize(
    ("version", "expiry", "pages"),
    [
        ("2024-07-01-preview", False, False),
        ("2024-10-21", False, False),
        ("2025-01-01-preview", False, False),
        ("2025-03-01-preview", True, False),
        ("2025-04-01-preview", True, True),
        ("2026-01-01", True, True),
    ],
)
def test_old_versions_honour_less(version, expiry, pages):
    """Expiry since 2025-03-01-preview, pages of files since 2025-04-01-preview."""
    dialect = _dialect(api="azure-dated", api_version=version)
    assert (dialect.honours_expiry, dialect.pages_files) == (expiry, pages)
    assert dialect.params == {"api-version": version}


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        ("ftp://host", {}),
        ("host", {}),
        ("https://", {}),
        ("https://user:pass@host", {}),
        ("https://host?x=1", {}),
        ("https://ho st\x00", {}),
        (HOST, {"api": "azure-dated"}),
        (HOST, {"api_version": "2024-10-21"}),
        (HOST, {"api": "openai", "api_version": "2024-10-21"}),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused_at_once(endpoint, fields):
    """Anything but a plain URL, and a version out of place, is a configuration error that names the setting."""
    with pytest.raises(ConfigurationError, match=r"regions\.east\."):
        _dialect(endpoint, **fields)
