"""Settings: sources, secrets, and problems that are all named at once."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from groupage_worker.configfile import load, load_with_sources
from groupage_worker.errors import ConfigurationError
from groupage_worker.settings import Settings
from tests.worker_ops.trees import BASE, REMOVED, tree, write

SECRET = "canary-8f3a-secret"


def problems_of(path: Path | None, env: dict[str, str] | None = None) -> list[str]:
    """The problems of settings that cannot work."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, env or {})
    return caught.value.problems


def test_defaults_load(tmp_path):
    """The smallest useful file loads, and what it leaves out has its default."""
    loaded = load(write(tmp_path), {})
    assert loaded.lanes["chat"].linger_s is None
    assert loaded.redis.control == loaded.redis.data


@pytest.mark.parametrize(
    ("given", "control"),
    [
        ({}, None),
        ({"redis.data_memory_bytes": 9}, 9),
        ({"redis.data_memory_bytes": 9, "redis.control_memory_bytes": 5}, 5),
        ({"redis.data_memory_bytes": 9, "redis.control_url": "redis://other:1/0"}, None),
        ({"redis.control_memory_bytes": 5, "redis.control_url": "redis://other:1/0"}, 5),
    ],
)
def test_memory_limits_of_both_servers(tmp_path, given, control):
    """A control server that is the data server has its limit; one of its own has its own or none."""
    loaded = load(write(tmp_path, given), {}).redis
    assert loaded.memory_bytes == {"data": given.get("redis.data_memory_bytes"), "control": control}


def test_environment_wins(tmp_path):
    """A value in the environment replaces the file's and leaves its neighbours alone."""
    env = {
        "GROUPAGE_LANES__CHAT__LINGER_S": "7",
        "GROUPAGE_LANES__CHAT__DEPLOYMENTS": '["mini-east"]',
        "GROUPAGE_REDIS__DATA_URL": "rediss://other:1/2",
        "GROUPAGE_SUBMIT__EXPIRES_AFTER_S": "null",
        "OTHER": "ignored",
    }
    loaded = load_with_sources(write(tmp_path, {"lanes.chat.reply_ttl_s": 99.0}), env)
    lane = loaded.settings.lanes["chat"]
    assert (lane.linger_s, lane.reply_ttl_s, lane.deployments) == (7.0, 99.0, ("mini-east",))
    assert loaded.settings.redis.data.get_secret_value() == "rediss://other:1/2"
    assert loaded.settings.submit.expires_after_s is None
    assert loaded.sources.origin(("lanes", "chat", "linger_s")) == "GROUPAGE_LANES__CHAT__LINGER_S"
    assert loaded.sources.origin(("lanes", "chat", "reply_ttl_s")) == "worker.yaml"
    assert loaded.sources.origin(("gather", "tick_s")) is None


def test_config_variable_names_the_file(tmp_path):
    """GROUPAGE_CONFIG names the file when no path is given."""
    assert load(None, {"GROUPAGE_CONFIG": str(write(tmp_path))}).cluster == "blue"


def test_environment_alone_is_enough():
    """A worker can be set up without any file."""
    env = {
        f"GROUPAGE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in BASE.items()
    }
    assert load(None, env) == Settings.model_validate(tree())


def test_toml_is_the_same(tmp_path):
    """A TOML file says the same as a YAML file."""
    path = tmp_path / "worker.toml"
    path.write_text(
        'cluster = "blue"\n'
        "[regions.east]\nendpoint = 'https://contoso-east.openai.azure.com'\nlocation = 'eastus'\napi_key = 'k'\n"
        "[deployments.mini-east]\nregion = 'east'\nmodel = 'm'\nenqueued_tokens = 5000000\n"
        "[lanes.chat]\ndeployments = ['mini-east']\n",
    )
    assert load(path, {}).lanes["chat"].deployments == ("mini-east",)


def test_service_variables_of_kubernetes_are_no_settings(tmp_path):
    """Variables that Kubernetes makes for Services called groupage-... do not stop the worker."""
    env = dict.fromkeys(
        (
            "GROUPAGE_REDIS_SERVICE_HOST",
            "GROUPAGE_REDIS_PORT_6379_TCP_ADDR",
            "GROUPAGE_REDIS_SERVICE_PORT_CLIENT",
            "GROUPAGE_SERVICE_HOST",
            "GROUPAGE_PORT",
        ),
        "10.0.0.7",
    )
    assert load(write(tmp_path), env).cluster == "blue"


def test_secret_files_are_read_anew(tmp_path):
    """Keys and addresses in files are taken at each use, so that rotation needs no restart."""
    key, url = tmp_path / "key", tmp_path / "url"
    key.write_text("first\n")
    url.write_text("redis://:a@h:1/0")
    changes = {
        "regions.east.api_key": REMOVED,
        "regions.east.api_key_file": str(key),
        "redis.data_url": REMOVED,
        "redis.data_url_file": str(url),
    }
    loaded = load(write(tmp_path, changes), {})
    assert loaded.regions["east"].key("east") == SecretStr("first")
    assert loaded.redis.control == SecretStr("redis://:a@h:1/0")
    key.write_text("second")
    url.write_text("redis://:b@h:1/0")
    assert loaded.regions["east"].key("east") == SecretStr("second")
    assert loaded.redis.data == SecretStr("redis://:b@h:1/0")
    key.write_text(" \n")
    with pytest.raises(ConfigurationError, match="the file is empty"):
        loaded.regions["east"].key("east")


def test_an_online_deployment_is_used_by_the_lane_that_names_it(tmp_path):
    """No note says that an online deployment stays unused, where a lane asks it."""
    online = {"kind": "online", "region": "east", "model": "x", "enqueued_tokens": 5000}
    changes = {"deployments.rescue": online, "lanes.chat.online": "rescue"}
    found = load_with_sources(write(tmp_path, changes), {}).notes
    assert not [note for note in found if "rescue" in note]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (
            {"deployments.spare": {"region": "east", "model": "x", "enqueued_tokens": 5000}},
            "no lane lists it",
        ),
        (
            {"regions.west": {**BASE["regions"]["east"], "endpoint": "https://w.openai.azure.com"}},
            "no deployment is in",
        ),
        ({"deployments.mini-east.input_usd": 1.0}, "one price of two"),
        ({"regions.east.endpoint": "https://eastus.api.cognitive.microsoft.com"}, "custom subdomain"),
        ({"regions.east.endpoint": "https://gateway.internal"}, "is not an Azure OpenAI host"),
        ({"regions.east.api": "azure-dated", "regions.east.api_version": "2024-10-21"}, "ignore the expiry"),
        (
            {"lanes.chat.deployments": ["mini-east"], "deployments.mini-east.enqueued_tokens": 2000},
            "are refused",
        ),
        ({"submit.expires_after_s": None}, "at most 500 input files"),
        ({"track.poll_s": 5}, "asks for 60 s"),
        ({"lease.drain_s": 60}, "terminationGracePeriodSeconds"),
        ({"lanes.chat.linger_s": 0.1}, "shorter than gather.tick_s"),
        ({"lanes.chat.producer_requests_max": 9_000_000}, "bounds nothing"),
        ({"lease.heavy_jobs": 10**9}, "bytes free"),
        ({"deployments.mini-eu.zone": "us"}, "us is not where swedencentral is"),
    ],
)
def test_notes(tmp_path, changes, part):
    """What works but is hardly meant is noted, and does not stop the worker."""
    notes = load_with_sources(write(tmp_path, changes), {}).notes
    assert any(part in note for note in notes), notes


def test_no_notes_without_cause(tmp_path):
    """Settings without oddities have no notes."""
    assert load_with_sources(write(tmp_path), {}).notes == []


def test_plain_http_is_for_loopback_or_by_request(tmp_path):
    """http:// works on loopback, and elsewhere only where it is asked for."""
    for endpoint in ("http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"):
        load(write(tmp_path, {"regions.east.endpoint": endpoint}), {})
    load(write(tmp_path, {"regions.east.endpoint": "http://emulator:8080", "http.allow_plain": True}), {})


def test_construction_reads_no_environment(monkeypatch):
    """Settings made by hand are what was handed in, whatever the environment says."""
    monkeypatch.setenv("GROUPAGE_CLUSTER", "red")
    assert Settings.model_validate(tree()).cluster == "blue"
