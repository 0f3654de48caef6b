"""A user that lacks one right: each call is done whole, or refused whole and for good; never a half."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from groupage import (
    DurabilityMissing,
    GroupageError,
    Producer,
    Request,
    SubmitErrors,
    Unavailable,
    Uncertain,
    faults,
    keys,
)
from groupage.testing import announce_lane, settle
from groupage_emulator.redis_server import EmbeddedRedis
from groupage_worker.operator.acl import User, producer_user
from tests.support.fleet import LANE

BODY = {"messages": [{"role": "user", "content": "hello"}]}
SHOP = producer_user("shop")
CALLS: dict[str, Callable[[Producer], Awaitable[Any]]] = {
    "submit": lambda shop: shop.submit(BODY, id="new"),
    "submit_many": lambda shop: shop.submit_many([Request(body=BODY, id=f"new{n}") for n in range(3)]),
    "submit to disk": lambda shop: shop.submit(BODY, id="new", durability="fsync"),
    "cancel": lambda shop: shop.cancel("open"),
    "discard": lambda shop: shop.discard("done"),
}
NEEDS = {
    "submit": {
        "set",
        "rpush",
        "pexpire",
        "zadd",
        "hincrby",
        "zrange",
        "unlink",
        "getrange",
        "exists",
        "hmget",
    },
    "cancel": {"set", "unlink", "hincrby", "pexpire", "getrange", "get"},
    "discard": {"unlink", "hincrby", "hget", "strlen", "pexpiretime"},
}
"""What a call cannot do without; so that a test that refuses nothing is noticed."""


@pytest.fixture
async def server_and_admin() -> AsyncIterator[tuple[EmbeddedRedis, "Redis[bytes]"]]:
    with EmbeddedRedis() as server:
        admin: Redis[bytes] = Redis.from_url(server.url)
        yield server, admin
        await admin.aclose()


async def begin(server: EmbeddedRedis, admin: "Redis[bytes]") -> None:
    """A lane with an open request and one that has its reply; replies take more than the producer may have."""
    await admin.flushall()
    await announce_lane(server.url, LANE)
    async with Producer(server.url, name="shop", lane=LANE) as producer:
        await producer.submit_many([Request(body=BODY, id=one) for one in ("open", "done")])
    assert await settle(server.url, LANE, "shop", "done", body={"choices": []})
    await admin.hset(keys.kept(LANE, "shop"), "1", 5)


async def as_user(server: EmbeddedRedis, admin: "Redis[bytes]", user: User) -> str:
    """The URL of a user that has just these rights."""
    rules = ["reset", "on", ">password-of-shop", *user.rules()]
    await admin.execute_command("ACL", "SETUSER", user.name, *rules)
    return server.url.replace("unix://", f"unix://{user.name}:password-of-shop@")


async def everything(admin: "Redis[bytes]") -> dict[bytes, bytes]:
    """All that the server holds, but for the inboxes, which go with their processes, and a group's own write."""
    await admin.hdel(keys.producer_load(LANE, "shop"), "group_commits")
    found = {key: await admin.dump(key) async for key in admin.scan_iter() if b"inbox" not in key}
    return {key: value for key, value in found.items() if value is not None}


async def refused(server: EmbeddedRedis, admin: "Redis[bytes]", user: User, call: str) -> bool:
    """Whether a call was refused; then nothing was written, and the error says so.

    Only whoever may not read the reply to what he cancels is told that it may have been done.
    """
    url = await as_user(server, admin, user)
    before = await everything(admin)
    errors: list[Exception] = []
    try:
        async with Producer(url, name="shop", lane=LANE) as producer:
            await CALLS[call](producer)
    except SubmitErrors as error:
        errors = list(error.errors.values())
    except GroupageError as error:
        errors = [error]
    if call == "cancel" and "get" not in user.commands:
        assert [type(one) for one in errors] == [Uncertain]
    elif errors:
        assert all(isinstance(one, Unavailable | DurabilityMissing) for one in errors), (call, errors)
        assert await everything(admin) == before, (call, user.rules())
    return bool(errors)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("is_recount", [False, True])
async def test_without_one_right_nothing_is_done_by_half(
    server_and_admin: tuple[EmbeddedRedis, "Redis[bytes]"], call: str, is_recount: bool
) -> None:
    """Each command and key is taken from a producer's user in turn: what it cannot do whole is refused, unwritten."""
    server, admin = server_and_admin
    found = set()
    for one in (*SHOP.commands, *SHOP.keys):
        await begin(server, admin)
        if is_recount:
            await admin.hset(keys.load(LANE), "max_producer_reply_bytes", 1_000)
            await admin.hset(keys.producer_load(LANE, "shop"), "reply_bytes", 10**9)
        user = dataclasses.replace(
            SHOP,
            commands=tuple(name for name in SHOP.commands if name != one),
            keys=tuple(name for name in SHOP.keys if name != one),
        )
        if await refused(server, admin, user, call):
            found.add(one)
    assert found >= {"evalsha", "g1:{*}:p:shop:*", *NEEDS.get(call, ())}


async def test_a_refusal_inside_a_script_is_final_and_logged(
    server_and_admin: tuple[EmbeddedRedis, "Redis[bytes]"],
) -> None:
    """What Redis refuses inside a script is not tried again, and the server's own log names the command."""
    server, admin = server_and_admin
    await begin(server, admin)
    url = await as_user(
        server, admin, dataclasses.replace(SHOP, commands=tuple(set(SHOP.commands) - {"rpush"}))
    )
    await admin.execute_command("ACL", "LOG", "RESET")
    async with Producer(url, name="shop", lane=LANE) as producer:
        with pytest.raises(Unavailable, match="Redis cannot be used"):
            await producer.submit(BODY, id="new")
    (entry,) = await admin.acl_log()
    assert (entry["context"], entry["object"], entry["count"]) == ("lua", "rpush", 1)


@pytest.mark.parametrize(
    "text",
    [
        "ACL failure in script: User shop has no permissions to run the 'rpush' command",
        "The user executing the script can't run this command or subcommand",
        "The user executing the script can't access at least one of the keys mentioned in the command arguments",
    ],
)
def test_servers_words_for_a_refusal_inside_a_script_are_known(text: str) -> None:
    """What Redis 7.2 and Redis 7.0 say is read as a missing right, and as nothing done."""
    error = ResponseError(text)
    assert faults.is_locked_out(error)
    assert faults.is_forbidden(error)
    assert isinstance(faults.of_write(error), Unavailable)
