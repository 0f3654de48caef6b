"""`submit` and `collect` for a producer whose bodies and replies are encrypted."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from groupage.contract import Status, WireReply
from groupage.scripts import Settlement
from groupage_worker.store.sealed import request_store
from tests.cli.tool import Tool, write_settings
from tests.support.canary import everything_in
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, Fleet

PROMPT = "crates of the harbour"


def new_keys(folder: Path) -> Path:
    """A folder with one key."""
    folder.mkdir(parents=True)
    (folder / "2026-11").write_text(os.urandom(32).hex())
    return folder


@pytest.fixture
def keys_dir(tmp_path: Path) -> Path:
    """Folders of keys, of `shop` alone."""
    return new_keys(tmp_path / "keys" / "shop").parent


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two requests."""
    body = {"messages": [{"role": "user", "content": PROMPT}]}
    lines = [{"custom_id": one, "url": "/chat/completions", "body": body} for one in "ab"]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def sealing_tool(fleet: Fleet, redis_url: str, tmp_path: Path, keys_dir: Path) -> Tool:
    """The command with settings that name the folders."""
    groups: dict[str, Any] = {"encryption": {"keys_dir": str(keys_dir)}}
    return Tool(write_settings(tmp_path, fleet.settings, redis_url, **groups))


async def answer(redis: "Redis[bytes]", clock: ManualClock, keys_dir: Path) -> None:
    """Answer both requests as a worker with these keys does."""
    reply = msgspec.json.encode(WireReply(body=msgspec.Raw(b'{"choices":[]}'), status_code=200))
    store = request_store(redis, clock=clock, keys_dir=keys_dir)
    settled = [Settlement("shop", one, Status.SUCCEEDED, reply) for one in "ab"]
    await store.settle(LANE, None, settled, reply_ttl_s=3_600)


async def test_the_keys_of_the_settings_are_used(
    sealing_tool: Tool,
    redis: "Redis[bytes]",
    clock: ManualClock,
    keys_dir: Path,
    file: Path,
) -> None:
    """A producer with a folder of keys submits encrypted and collects its replies, without being told to."""
    words = [str(file), "--producer", "shop"]
    done = await sealing_tool("submit", *words, "--json")
    assert done.data["submitted"] == 2
    assert "as shop, encrypted" in done.err
    assert PROMPT.encode() not in await everything_in(redis)
    await answer(redis, clock, keys_dir)
    assert b"choices" not in await everything_in(redis)
    out = keys_dir.parent / "out.jsonl"
    assert (await sealing_tool("collect", *words, "--output", str(out), "--json")).data["failed"] == 0
    assert out.read_text().count('"choices"') == 2


async def test_a_producer_without_keys_is_told_so(
    sealing_tool: Tool, redis: "Redis[bytes]", file: Path
) -> None:
    """Who has no folder is not encrypted, and the line that names what is done says it."""
    done = await sealing_tool("submit", str(file), "--producer", "mail")
    assert done.status == 0
    assert "as mail, not encrypted" in done.err
    assert PROMPT.encode() in await everything_in(redis)


async def test_keys_are_named_where_there_are_no_settings(
    fleet: Fleet, redis_url: str, keys_dir: Path, file: Path
) -> None:
    """With --redis-file the keys come from --keys-dir; who needs them and names none, or others, is told so."""
    redis, tmp_path = fleet.redis, keys_dir.parent
    (tmp_path / "url").write_text(redis_url)
    tool, out = Tool(tmp_path), str(tmp_path / "out.jsonl")
    words = [str(file), "--producer", "shop", "--lane", LANE, "--redis-file", str(tmp_path / "url")]
    right, others = ["--keys-dir", str(keys_dir / "shop")], new_keys(tmp_path / "others")
    missing = await tool("submit", *words, "--keys-dir", str(tmp_path / "none"), config=False)
    assert (missing.status, "cannot be read" in missing.err) == (2, True)
    assert (await tool("submit", *words, *right, config=False)).status == 0
    assert PROMPT.encode() not in await everything_in(redis)
    await answer(redis, fleet.clock, keys_dir)
    for given in ([], ["--keys-dir", str(others)]):
        refused = await tool("collect", *words, *given, "--output", out, config=False)
        assert refused.status == 2
        assert "--keys-dir names the folder of shop's keys" in refused.err
    assert (await tool("collect", *words, *right, "--output", out, config=False)).status == 0
