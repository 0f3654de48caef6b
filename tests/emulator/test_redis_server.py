"""The embedded Redis starts, survives a kill with its data, and ends with its parent."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from groupage_emulator.redis_server import EmbeddedRedis, RedisStartError, free_port


async def test_unix_socket_kill_and_restart():
    """Data written and synced before a kill are there after a restart, at the same url."""
    async with EmbeddedRedis(options={"appendfsync": "always"}) as server:
        url = server.url
        assert url.startswith("unix://")
        client = Redis.from_url(url)
        await client.set("a", "1")
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        assert (await client.config_get("appendonly"))["appendonly"] == "yes"
        await client.aclose()
        server.kill()
        await asyncio.to_thread(server.restart)
        client = Redis.from_url(server.url)
        assert (server.url, await client.get("a")) == (url, b"1")
        await client.aclose()
        pid, folder = server.pid, server.log_path.parent
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


async def test_loopback_port_and_data_dir(tmp_path):
    """A port and a directory can be given; the directory stays."""
    async with EmbeddedRedis(port=0, data_dir=tmp_path / "data") as server:
        client = Redis.from_url(server.url)
        assert await client.ping()
        await client.aclose()
        assert server.url.startswith("redis://127.0.0.1:")
    assert server.log_path.exists()


def test_sync_use():
    """It is a plain context manager too."""
    with EmbeddedRedis() as server:
        assert server.pid > 0
    with pytest.raises(RuntimeError):
        _ = server.pid


def test_failed_start_shows_the_log(tmp_path):
    """When the server does not start, the error says what its log says."""
    port = free_port()
    with EmbeddedRedis(port=port), pytest.raises(RedisStartError, match=r"(?i)in use|bind") as caught:
        EmbeddedRedis(port=port, data_dir=tmp_path).start()
    assert str(tmp_path / "redis.log") in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
async def test_killed_parent_takes_the_server_along():
    """`python -m groupage_emulator redis` killed outright leaves no server behind."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "groupage_emulator", "redis", "--port", "0", stdout=-1
    )
    url = (await process.stdout.readline()).decode().strip()
    client = Redis.from_url(url)
    pid = (await client.info("server"))["process_id"]
    await client.aclose()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            await asyncio.sleep(0.01)
    assert pid != os.getpid()
