"""Users of `groupage acl` on a real server: all that the product does works, and everything else is refused."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from groupage import Producer, Request, Unavailable, keys
from groupage.connect import connect, disconnect
from groupage.contract import ID_PATTERN, LANE_PATTERN, PRODUCER_PATTERN, Priority
from groupage.testing import announce_lane
from groupage_worker.models import Move
from groupage_worker.operator.acl import producer_user, staff
from groupage_worker.states import BatchState
from tests.cli.tool import write_settings
from tests.security.guarded import PRODUCERS, Guarded, guarded
from tests.support.clock import ManualClock
from tests.support.fleet import LANE, running_fleet

ROOT = Path(__file__).parents[2]
BODY = {"messages": [{"role": "user", "content": "hello"}]}
USERS = {user.name: user for user in (*staff(), *map(producer_user, PRODUCERS))}
FREE = frozenset({"auth", "hello", "quit", "reset"})
"""Commands that need no permission, or only log in."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path) as running:
        yield running


async def every_command(admin: "Redis[bytes]") -> dict[str, Any]:
    """All commands of the server by name, `config|get` for a subcommand, with arity and first key."""
    found: dict[str, Any] = {}

    def take(entry: list[Any]) -> None:
        name, below = entry[0].decode(), entry[9] if len(entry) > 9 else []
        for one in below:
            take(one)
        if not below:
            found[name] = {"arity": entry[1], "first": entry[3]}

    connection = await admin.connection_pool.get_connection()
    await connection.send_command("COMMAND")
    for entry in await connection.read_response():
        take(entry)
    await admin.connection_pool.release(connection)
    return found


def words_of(name: str, facts: Any, key: str = "x") -> list[str]:
    """A call with as few arguments as the server counts, `key` where the first key belongs."""
    if name in {"eval", "evalsha"}:
        return [name, "x", "1", key]
    if name == "xread":
        return [name, "STREAMS", key, "0"]
    words = name.split("|")
    words += ["1"] * max(0, abs(facts["arity"]) - len(words))
    if facts["first"] > 0:
        words += ["1"] * (facts["first"] + 1 - len(words))
        words[facts["first"]] = key
    return words


@pytest.mark.parametrize("user", USERS)
async def test_every_other_command_is_refused(server: Guarded, user: str) -> None:
    """Each command that the server has and the role does not name is refused, one by one."""
    commands = await every_command(server.admin)
    assert len(commands) > 300
    allowed = {rule.removeprefix("+") for rule in USERS[user].rules() if rule.startswith("+")}
    # a whole command brings its subcommands with it
    passed = {name for name in commands if name in allowed or name.partition("|")[0] in allowed} | FREE
    assert allowed - FREE <= passed | {"command"}, "a role names a command that the server does not know"
    let_in = []
    for name in sorted(set(commands) - passed):
        words = words_of(name, commands[name])
        answer = await server.admin.execute_command("ACL", "DRYRUN", user, *words)
        if b"no permissions to run" not in answer:
            let_in.append(f"{name}: {answer}")
    assert let_in == []
    async with server.client(user) as client:
        for words in (
            ["FLUSHALL"],
            ["KEYS", "*"],
            ["CONFIG", "SET", "maxmemory", "1"],
            ["ACL", "LIST"],
            ["MONITOR"],
        ):
            with pytest.raises(NoPermissionError):
                await client.execute_command(*words)


FOREIGN = {
    "another's request": keys.request(LANE, "shop1", "r"),
    "another's reply": keys.reply(LANE, "shop1", "r"),
    "another's queue": keys.queue(LANE, "mail", "n"),
    "another's counters": keys.producer_load(LANE, "mail"),
    "another's inbox": keys.inbox("shop1", "c" * 16),
    "a manifest": keys.manifest(LANE, "b1"),
    "a record": keys.batch("b1"),
    "a history": keys.history("b1"),
    "the ledger": keys.quota("east"),
    "what is known of a deployment": keys.deployment("east"),
    "due steps": keys.DUE_LIGHT,
    "arq's": "arq:job:x",
    "wake-ups": "g1:steps:light",
    "any other": "x",
}


async def refused_keys(server: Guarded, user: str, key: str) -> list[str]:
    """Allowed commands of a user that may touch a key."""
    commands = await every_command(server.admin)
    through = []
    for name in USERS[user].commands:
        facts = commands.get(name)
        if facts is None or (facts["first"] == 0 and name not in {"eval", "evalsha", "xread"}):
            continue
        answer = await server.admin.execute_command("ACL", "DRYRUN", user, *words_of(name, facts, key))
        if answer in (b"OK", "OK", True):
            through.append(name)
    return through


@pytest.mark.parametrize("what", FOREIGN)
async def test_a_producer_touches_nothing_of_others(server: Guarded, what: str) -> None:
    """No allowed command reaches a key that is not the producer's, and one whose name begins alike is another."""
    assert await refused_keys(server, "producer-shop", FOREIGN[what]) == []


async def test_a_producer_only_reads_what_workers_announce(server: Guarded) -> None:
    """Announcements and epoch can be read, and not written."""
    writing = {"hset", "hdel", "hincrby", "del", "unlink", "expire", "pexpire", "set", "setrange"}
    for key in (keys.LANES, keys.EPOCH, keys.lane_epoch(LANE)):
        through = await refused_keys(server, "producer-shop", key)
        assert {"hget", "hgetall"} <= set(through)
        assert not writing & set(through)


async def test_a_metrics_reader_sees_no_body(server: Guarded) -> None:
    """The reader of figures reaches neither requests nor replies nor names in a queue, and writes nothing."""
    for key in (
        keys.request(LANE, "shop", "r"),
        keys.reply(LANE, "shop", "r"),
        keys.queue(LANE, "shop", "n"),
    ):
        assert await refused_keys(server, "metrics", key) == []
    for key in (keys.load(LANE), keys.producer_load(LANE, "shop"), keys.quota("east"), keys.DUE_HEAVY):
        assert await refused_keys(server, "metrics", key)
    async with server.client("metrics") as client:
        assert await client.hgetall(keys.load(LANE)) == {}
        assert await client.info("memory")
        with pytest.raises(NoPermissionError):
            await client.hset(keys.load(LANE), "refused", "x")


@given(
    names=st.tuples(*[st.from_regex(PRODUCER_PATTERN, fullmatch=True)] * 2).filter(
        lambda two: two[0] != two[1]
    ),
    lane=st.from_regex(LANE_PATTERN, fullmatch=True),
    name=st.from_regex(ID_PATTERN, fullmatch=True),
    priority=st.sampled_from(Priority),
)
@settings(max_examples=200)
def test_patterns_of_two_producers_never_meet(
    names: tuple[str, str], lane: str, name: str, priority: Priority
) -> None:
    """Whatever the names: no pattern of one producer fits a key of another, and each of its own keys fits."""
    mine, other = names
    patterns = [
        re.compile(re.escape(one).replace(r"\*", ".*"), re.DOTALL) for one in producer_user(mine).keys
    ]

    def keys_of(name: str) -> list[str]:
        built = [keys.request(lane, name, id), keys.reply(lane, name, id), keys.queue(lane, name, priority)]
        return [*built, keys.producer_load(lane, name), keys.inbox(name, "c" * 16)]

    for key in keys_of(other):
        assert not any(pattern.fullmatch(key) for pattern in patterns), key
    for key in keys_of(mine):
        assert any(pattern.fullmatch(key) for pattern in patterns), key


async def test_a_producer_can_do_everything_a_producer_does(server: Guarded) -> None:
    """Every call of `Producer`, at each level the server has, as its own user, without one refusal."""
    async with server.client("worker") as worker:
        await worker.hset(keys.LANES, LANE, b'{"endpoint":"/chat/completions"}')
    async with Producer(server.url("producer-shop"), name="shop", lane=LANE, sweep_s=0.05) as producer:
        ticket = await producer.submit(BODY, id="one")
        assert (await producer.submit(BODY, id="two", durability="fsync")).is_new
        with pytest.raises(Exception, match=r"level|reached|replica"):
            await producer.submit(BODY, id="three", durability="replicated")
        await producer.submit_many([Request(body=BODY, id=f"r{n}") for n in range(20)])
        assert (await producer.status("one")).state == "waiting"
        async with Producer(server.url("producer-shop"), name="shop", lane=LANE) as waiting:
            reply = asyncio.create_task(waiting.reply("one", timeout_s=20))
            while not await server.admin.exists(keys.inbox("shop", waiting._client)):
                await asyncio.sleep(0)
            assert not (await producer.cancel(ticket)).ok
            assert (await reply).status == "cancelled"
        assert await producer.discard("one")
        assert LANE in await producer.lanes()
    assert await server.refusals() == []


async def test_a_producer_cannot_be_another(server: Guarded) -> None:
    """Under another's name nothing works, and neither does a wrong password nor the default user."""
    await announce_lane(server.url("worker"), LANE)
    async with Producer(server.url("producer-shop"), name="shop1", lane=LANE) as thief:
        for call in (
            thief.submit(BODY),
            thief.status("r"),
            thief.reply("r", timeout_s=5),
            thief.discard("r"),
        ):
            with pytest.raises(Unavailable):
                await call
    for user, password in (("producer-shop", "wrong"), ("default", "")):
        path = server.url(user if password else "worker").rpartition("@")[2]
        login = f"{user}:{password}@" if password else ""
        client: Redis[bytes] = connect(f"unix://{login}{path}")
        with pytest.raises(RedisError, match=r"(?i)authenticat|invalid username"):
            await client.get("x")
        await disconnect(client)


async def test_a_fleet_lives_as_its_user(server: Guarded, clock: ManualClock) -> None:
    """A whole life of batches, trouble and a loss of Redis included, as the worker's user, without one refusal."""
    async with server.client("worker") as redis, running_fleet(redis, clock) as fleet:
        await fleet.submit(30)
        await fleet.submit(2, deadline_s=1.0)
        await fleet.settle_all()
        await fleet.submit(3)

        async def submitted() -> bool:
            return BatchState.SUBMITTED in await fleet.states()

        await fleet.run_until(submitted)
        batch = next(one for one in await fleet.open_batches() if one.state is BatchState.SUBMITTED)
        begun = await fleet.batches.begin(batch.id)
        assert begun
        fields = {"last_error": "brand_new", "bad_lines": "", "bad_message": "", "suspects": "", "cut": ""}
        await fleet.batches.commit(begun, Move(state=BatchState.SPLITTING, fields=fields))
        await fleet.settle_all()
        await fleet.submit(4)
        await fleet.run_until(submitted)
        await server.admin.flushall()
        await fleet.pipeline.beat()
        await fleet.settle_all()
        await fleet.close_all()
    assert await server.refusals() == []


def test_every_command_of_a_script_is_allowed() -> None:
    """Whatever a script calls inside is in the list of whoever runs it."""
    folders = {
        "worker": ("producers/groupage/lua", "worker/groupage_worker/lua"),
        "producer-shop": ("producers/groupage/lua",),
    }
    for user, names in folders.items():
        scripts = [path for name in names for path in (ROOT / name).glob("*.lua")]
        assert scripts
        called = {
            one.lower() for path in scripts for one in re.findall(r"redis\.call\('(\w+)'", path.read_text())
        }
        assert called - set(USERS[user].commands) == set(), user


async def test_the_worker_checks_well_as_its_user(
    server: Guarded, clock: ManualClock, tmp_path: Path
) -> None:
    """`groupage-worker check` finds nothing wrong with a server on which it is the worker's user."""
    async with server.client("worker") as redis, running_fleet(redis, clock) as fleet:
        path = write_settings(tmp_path, fleet.settings, server.url("worker"))
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "groupage_worker", "check", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    assert await server.refusals() == []
