"""The command line: it teaches, it never shows a traceback for a user's mistake, and `check` explains."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import yaml
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from groupage_emulator import Config, Emulator
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.cli import checks, main
from groupage_worker.cli.checks import check, explain, explain_redis
from groupage_worker.configfile import load_with_sources
from groupage_worker.errors import (
    CredentialsRejected,
    NotFound,
    RegionUnavailable,
    Rejected,
    Transient,
)
from groupage_worker.settings import RegionSettings
from tests.worker_ops.trees import tree, write


@pytest.fixture(autouse=True)
def without_settings_of_ours(monkeypatch):
    """No GROUPAGE_ variable of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("GROUPAGE_"):
            monkeypatch.delenv(name)


def test_settings_are_shown_masked(tmp_path, capsys):
    """`settings` shows every value with its origin, secrets masked, addresses without credentials."""
    path = write(
        tmp_path, {"redis.data_url": "redis://user:canary@host:1/0", "regions.east.api_key": "canary"}
    )
    assert main(["settings", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert "canary" not in out
    lines = {line.partition(" = ")[0]: line for line in out.splitlines()}
    assert "redis://host:1/0" in lines["redis.data_url"]
    assert lines["cluster"].endswith("# worker.yaml")
    assert lines["gather.tick_s"].endswith("# default")
    assert "****" in lines["regions.east.api_key"]


def test_settings_as_json(tmp_path, capsys, monkeypatch):
    """`settings --json` gives the same as a tree, with the notes; the environment counts."""
    monkeypatch.setenv("GROUPAGE_TRACK__POLL_S", "5")
    assert main(["settings", "--json", "--config", str(write(tmp_path))]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["track"]["poll_s"] == 5
    assert shown["settings"]["regions"]["east"]["api_key"] == "**********"
    assert any("60 s" in note for note in shown["notes"])


def test_schema_and_table_need_no_settings(capsys):
    """`settings --schema` and `--table` work without any settings."""
    assert main(["settings", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Settings"
    assert main(["settings", "--table"]) == 0
    assert "| `cluster` |" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "settings", "check"])
def test_settings_that_cannot_work_are_listed(tmp_path, capsys, command):
    """Each command lists every problem on standard error and exits with 2."""
    path = write(tmp_path, {"lanes.chat.linger_s": -1, "regions.east.endpoint": "x", "typo": 1})
    assert main([command, "--config", str(path)]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    lines = streams.err.splitlines()
    assert lines[0] == "groupage-worker: the settings cannot work, 3 problems:"
    assert len(lines) == 4
    assert "Traceback" not in streams.err


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["settings", "--help"], ["check", "--help"]])
def test_help_teaches(capsys, args):
    """Every help text says where settings come from."""
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 0
    assert "GROUPAGE_REDIS__DATA_URL" in capsys.readouterr().out


def test_the_example_of_the_help_is_valid(capsys):
    """The example file in the help text has the shape of settings."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    example = text[text.index("  cluster:") : text.index("then `groupage")]
    assert set(yaml.safe_load(example)) == {"cluster", "redis", "regions", "deployments", "lanes"}


def test_the_module_runs():
    """`python -m groupage_worker --version` works as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "groupage_worker", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("groupage ")


def emulated(emulator: Emulator, redis_url: str, **changes: Any) -> dict[str, Any]:
    """Settings for the emulator's East US and the embedded Redis server."""
    region = emulator.regions["eastus"]
    return tree(
        {
            "redis.data_url": redis_url,
            "regions": {"east": {"endpoint": region.base_url, "location": "eastus", "api_key": region.key}},
            "deployments": {"mini": {"region": "east", "model": "m", "enqueued_tokens": 5_000_000}},
            "lanes.chat.deployments": ["mini"],
            **changes,
        },
    )


async def findings(tmp_path, settings: dict[str, Any]) -> list[checks.Finding]:
    """What `check` finds for settings given as a tree."""
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(settings))
    return await check(load_with_sources(path, {}))


@pytest.fixture
async def emulator():
    """Three regions on free ports."""
    async with Emulator(Config(clock="manual")) as emulator:
        yield emulator


async def test_check_finds_nothing_wrong(tmp_path, emulator, redis_url):
    """With a good server and a good region there is no problem, and each is told as working."""
    found = await findings(tmp_path, emulated(emulator, redis_url))
    assert [finding.level for finding in found if finding.level == "problem"] == []
    assert {finding.subject for finding in found if finding.level == "ok"} == {
        "redis.data",
        "redis.control",
        "regions.east",
    }


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"regions.east.api_key": "wrong"}, ["refused the key", "regions.east.api_key"]),
        (
            {"regions.east.api": "azure-dated", "regions.east.api_version": "2024-08-06"},
            ["no such path", "api_version 2024-08-06"],
        ),
        ({"regions.east.endpoint": "http://127.0.0.1:9"}, ["cannot be reached", "http://127.0.0.1:9"]),
        ({"redis.control_url": "redis://127.0.0.1:9/0"}, ["redis control server", "cannot be reached"]),
    ],
)
async def test_check_explains(tmp_path, emulator, redis_url, changes, parts):
    """Each thing that is wrong is one sentence with what to change."""
    settings = emulated(emulator, redis_url)
    for path, value in changes.items():
        *groups, last = path.split(".")
        node = settings
        for group in groups:
            node = node[group]
        node[last] = value
    problems = [finding.text for finding in await findings(tmp_path, settings) if finding.level == "problem"]
    assert len(problems) == 1, problems
    assert all(part in problems[0] for part in parts), problems


async def test_check_ends_with_a_status(tmp_path, emulator, redis_url, capsys):
    """The command prints the findings, also as JSON, and exits with 1 if there is a problem, else with 0."""
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(emulated(emulator, redis_url)))
    assert await asyncio.to_thread(main, ["check", "--config", str(path)]) == 0
    assert "ok       regions.east" in capsys.readouterr().out
    settings = emulated(emulator, redis_url)
    settings["regions"]["east"]["api_key"] = "canary-wrong"
    path.write_text(yaml.safe_dump(settings))
    assert await asyncio.to_thread(main, ["check", "--json", "--config", str(path)]) == 1
    streams = capsys.readouterr()
    assert json.loads(streams.out)["ok"] is False
    assert "canary" not in streams.out + streams.err


KEYED = RegionSettings(endpoint="https://e", location="l", api_key="k")
ENTRA = RegionSettings(endpoint="https://e", location="l", entra=True)


@pytest.mark.parametrize(
    ("error", "region", "parts"),
    [
        (CredentialsRejected("x", code="http_401"), KEYED, ["refused the key (http_401)", "https://e"]),
        (CredentialsRejected("x", code="http_403"), KEYED, ["network rules"]),
        (CredentialsRejected("x", code="http_401"), ENTRA, ["Cognitive Services OpenAI User", "entra_scope"]),
        (CredentialsRejected("x", code="token_unavailable"), ENTRA, ["gave no token", "az login"]),
        (RegionUnavailable("x", code="404"), KEYED, ["no such path", "azure-v1"]),
        (NotFound("x", code="http_404"), KEYED, ["no such path"]),
        (RegionUnavailable("x", code="redirected"), KEYED, ["redirect"]),
        (Transient("x", code="connect"), KEYED, ["cannot be reached (connect)", "trust_env"]),
        (Transient("x", code="http_429"), KEYED, ["cannot list files now", "in a minute"]),
        (Rejected("x", code="OperationNotSupported"), KEYED, ["inference path"]),
        (Rejected("x", code="brand_new"), KEYED, ["listing files failed (brand_new)"]),
    ],
)
def test_errors_of_regions_are_explained(error, region, parts):
    """Every kind of error of the client becomes a sentence with what to change."""
    text = explain(error, "regions.east", region, "files")
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (AuthenticationError("canary"), "refuses the user or password"),
        (ResponseError("WRONGPASS canary"), "asks for a password"),
        (NoPermissionError("canary"), "may not run INFO"),
        (RedisTimeoutError("canary"), "does not answer in time"),
        (RedisConnectionError("canary"), "cannot be reached"),
        (OSError("canary"), "cannot be reached"),
        (ResponseError("unknown command canary"), "check that it is Redis"),
    ],
)
def test_errors_of_redis_are_explained(error, part):
    """Every kind of error of a Redis server becomes a sentence, without the library's text."""
    text = explain_redis(error, "data", "redis://h:1/0")
    assert part in text
    assert "canary" not in text


def run_worker(path) -> subprocess.CompletedProcess[str]:
    """`groupage-worker run` as a process of its own, which is expected to end at once."""
    return subprocess.run(
        [sys.executable, "-m", "groupage_worker", "run", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


async def test_run_refuses_a_dangerous_server(tmp_path, emulator):
    """A worker does not start on a server that may lose requests; it says what to change and exits with 2."""
    options = {"maxmemory": "32mb", "maxmemory-policy": "allkeys-lru"}
    async with EmbeddedRedis(options=options) as server:
        path = tmp_path / "worker.yaml"
        path.write_text(yaml.safe_dump(emulated(emulator, server.url, health={"port": 0})))
        done = await asyncio.to_thread(run_worker, path)
    assert done.returncode == 2, done.stderr
    assert "set maxmemory-policy noeviction" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_without_a_port(tmp_path):
    """A worker whose port is taken ends with 1 and one sentence, without traceback or password."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        changes = {
            "redis.data_url": "redis://:canary@127.0.0.1:9/0",
            "health.host": "127.0.0.1",
            "health.port": taken.getsockname()[1],
        }
        done = run_worker(write(tmp_path, changes))
    assert done.returncode == 1, done.stderr
    assert "health.port must be free" in done.stderr
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr
