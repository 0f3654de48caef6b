"""`submit` and `collect` as processes: real server, real worker, emulated service."""

import asyncio
import json
import signal
from pathlib import Path

from redis.asyncio import Redis

from groupage import keys
from groupage.testing import announce_lane, open_requests, settle
from groupage_emulator.demo.children import wait_until
from tests.acceptance.site import LANE, WAIT_S, Site, body
from tests.cli.tool import Tool

COUNT = 300


def write(path: Path, count: int) -> Path:
    """A batch file as OpenAI's documentation has it."""
    lines = [
        {
            "custom_id": f"row {n}" if n % 3 == 0 else f"row-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body(n),
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_batch_file_goes_through(site: Site, tmp_path: Path) -> None:
    """A file goes in and its replies come out in its order; the same calls again send and write nothing twice."""
    await site.start_worker()
    tool = Tool(tmp_path / "worker.yaml")
    file, out = write(tmp_path / "in.jsonl", COUNT), tmp_path / "out.jsonl"
    words = (str(file), "--producer", "shop")
    first = await tool("submit", *words, "--priority", "urgent", "--json")
    assert (first.data["submitted"], first.data["known"]) == (COUNT, 0)
    assert f"{COUNT} requests of {file} to lane {LANE}" in first.err
    again = await tool("submit", *words, "--priority", "urgent", "--json")
    assert (again.data["submitted"], again.data["known"]) == (0, COUNT)
    collected = await tool("collect", *words, "--output", str(out), "--timeout-s", "40", "--json")
    assert collected.data["written"] == COUNT
    assert collected.data["failed"] == 0
    assert [one["custom_id"] for one in read(out)] == [one["custom_id"] for one in read(file)]
    assert all(one["response"]["body"]["choices"] for one in read(out))  # type: ignore[index] # JSON
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    rest = await tool("collect", *words, "--output", str(out), "--json")
    assert 0 < rest.data["written"] < COUNT
    assert out.read_bytes() == whole
    assert sum(site.emulator.journal.summary().billed.values()) == COUNT


async def test_submit_can_be_killed_at_any_time(site: Site, tmp_path: Path) -> None:
    """After SIGKILL in mid-run the same call sends the rest, and no request is there twice."""
    await announce_lane(site.redis.url, LANE)
    url = tmp_path / "url"
    url.write_text(site.redis.url)
    file = write(tmp_path / "in.jsonl", 4_000)
    words = ["submit", str(file), "--producer", "shop", "--lane", LANE, "--redis-file", str(url)]
    running = site.crew.start("submit", ["groupage_worker.operator", *words])
    async with site.producer() as producer:
        redis = producer._redis
        sent = 0

        async def some_are_sent() -> None:
            nonlocal sent
            while sent == 0 and running.exit_status() is None:
                sent = int(await redis.hget(f"g1:{{{LANE}}}:load", "submitted_total") or 0)

        await asyncio.wait_for(some_are_sent(), WAIT_S)
        running.signal(signal.SIGKILL)
        assert await wait_until(lambda: running.exit_status() is not None, WAIT_S)
        sent = int(await redis.hget(f"g1:{{{LANE}}}:load", "submitted_total") or 0)
        done = (await Tool(tmp_path / "none")(*words, "--json", config=False)).data
        assert (done["known"], done["submitted"]) == (sent, 4_000 - sent)
        assert int(await redis.hget(f"g1:{{{LANE}}}:load", "submitted_total")) == 4_000


async def test_a_full_share_is_waited_for(redis: "Redis[bytes]", redis_url: str, tmp_path: Path) -> None:
    """Where the producer's share is full `submit` waits until there is room, and nothing is lost or sent twice."""
    await announce_lane(redis_url, LANE)
    # not the lane's limit, after which `submit` waits for half a minute
    await redis.hset(keys.load(LANE), "max_producer_requests", 100)
    (tmp_path / "url").write_text(redis_url)
    file = write(tmp_path / "in.jsonl", 150)
    words = ("--producer", "shop", "--lane", LANE, "--redis-file", str(tmp_path / "url"))
    submitting = asyncio.create_task(Tool(tmp_path)("submit", str(file), *words, "--json", config=False))
    settled: set[str] = set()
    while not submitting.done():
        waiting = await open_requests(redis_url, LANE, "shop")
        assert len(waiting) <= 100
        for one in waiting[:60]:
            settled.add(one.id)
            await settle(redis_url, LANE, "shop", one.id, body={"choices": []})
        await asyncio.wait([submitting], timeout=0.1)
    done = submitting.result().data
    assert (done["submitted"], done["known"]) == (150, 0)
    assert len(settled) >= 50


async def test_mistakes_in_files_come_before_anything_is_sent(redis_url: str, tmp_path: Path) -> None:
    """A file with one bad line is refused as a whole, naming the line and no text of it."""
    await announce_lane(redis_url, LANE)
    (tmp_path / "url").write_text(redis_url)
    tool, words = (
        Tool(tmp_path),
        ("--producer", "shop", "--lane", LANE, "--redis-file", str(tmp_path / "url")),
    )
    file = write(tmp_path / "in.jsonl", 3)
    good = file.read_text()
    bad_body = json.dumps(
        {"custom_id": "x", "url": "/chat/completions", "body": {"messages": [], "stream": "canary"}}
    )
    for text, part in ((bad_body, "line 4: body.messages"), ("canary", "line 4: must be a JSON object")):
        file.write_text(f"{good}{text}\n")
        answer = await tool("submit", str(file), *words, config=False)
        assert answer.status == 2
        assert part in answer.err
        assert "canary" not in answer.err
    assert await open_requests(redis_url, LANE, "shop") == []
    file.write_text("\n\n")
    assert "holds no request" in (await tool("submit", str(file), *words, config=False)).err
    unknown = await tool("submit", str(file), *words[:3], "nolane", *words[4:], config=False)
    assert unknown.status == 2
    assert "lane 'nolane' is unknown" in unknown.err


async def test_collect_tells_what_is_missing(redis_url: str, tmp_path: Path) -> None:
    """A reply that does not come in time is status 1, a line that was never submitted status 2 with its number."""
    await announce_lane(redis_url, LANE)
    (tmp_path / "url").write_text(redis_url)
    tool, words = (
        Tool(tmp_path),
        ("--producer", "shop", "--lane", LANE, "--redis-file", str(tmp_path / "url")),
    )
    file, out = write(tmp_path / "in.jsonl", 2), tmp_path / "out.jsonl"
    never = await tool("collect", str(file), *words, "--output", str(out), config=False)
    assert never.status == 2
    assert "line 1: was not submitted" in never.err
    assert (await tool("submit", str(file), *words, config=False)).status == 0
    late = await tool("collect", str(file), *words, "--output", str(out), "--timeout-s", "0.2", config=False)
    assert late.status == 1
    assert "0 of 2 replies" in late.err
    file.write_text(file.read_text().replace("Letter 0", "Parcel 0"))
    conflict = await tool("submit", str(file), *words, config=False)
    assert conflict.status == 2
    assert "line 1: its custom_id was submitted before with another body" in conflict.err
