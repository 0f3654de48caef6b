"""Lua scripts: loaded from `.lua` files, called by hash, one typed method each."""

import functools
import hashlib
import re
import struct
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from groupage import keys
from groupage.codec import CLIENT_CHARS, INSTANT_CHARS
from groupage.contract import DUE_SLOT_MS, ORPHAN_TTL_MS, Priority, Status

LISTEN_PAGE: Final = 500
"""`listen` calls per round trip."""


_INCLUDE = re.compile(r"^-- include (\w+)\n", re.MULTILINE)


class Script:
    """One `.lua` file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, names: Sequence[str], args: Sequence[Any]) -> Any:
        """Run it by hash; a server that does not know it gets the source, and keeps it.

        Raises:
            redis.exceptions.RedisError: Whatever the server or the connection says.
        """
        run: Any = redis.execute_command  # redis-py leaves it untyped
        try:
            return await run("EVALSHA", self.sha, len(names), *names, *args)
        except NoScriptError:
            return await run("EVAL", self.source, len(names), *names, *args)


@functools.cache
def load_script(package: str, name: str) -> Script:
    """Read `lua/<name>.lua` of a package, `groupage` or `groupage_worker`.

    A line `-- include <part>` stands for `lua/parts/<part>.lua` of `groupage`: scripts cannot call one another.
    """
    source = resources.files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return Script(_INCLUDE.sub(_part, source))


def _part(line: re.Match[str]) -> str:
    return resources.files("groupage").joinpath("lua", "parts", f"{line[1]}.lua").read_text(encoding="utf-8")


class Entry(NamedTuple):
    """One request for `submit`: `value` is header and body (`codec`), sizes in tokens and bytes."""

    id: str
    digest: str
    deadline_at_ms: int
    tokens: int
    body_bytes: int
    value: bytes


class Submitted(NamedTuple):
    """Answer of `submit`: one character of `codes` per request, and the limit behind an `o`."""

    codes: str
    limit_name: str
    value: int
    limit: int

    @classmethod
    def of(cls, answer: Any) -> "Submitted":
        """The same from what the script returns."""
        codes, limit_name, value, limit = answer
        return cls(codes.decode("ascii"), limit_name.decode(), value, limit)


_PLACE = struct.Struct("<ddIB").pack


class SubmitPage:
    """Requests of one call of `submit`: the values, and one argument with what the script has to know of each.

    Six arguments for each request took longer to pack than all else together.
    """

    def __init__(self) -> None:
        self._index: list[bytes] = []
        self._values: list[bytes] = []

    def add(self, id: str, deadline_at_ms: int, tokens: int, body_bytes: int, value: bytes) -> None:  # noqa: A002 - the word of the contract
        """Add a request; `value` is header and body, which say the same."""
        name = id.encode()
        self._index += (_PLACE(deadline_at_ms, tokens, body_bytes, len(name)), name)
        self._values.append(value)

    @property
    def args(self) -> list[bytes]:
        """What the script gets of them."""
        return [b"".join(self._index), *self._values]


Call = tuple[list[str], list[Any]]
"""Keys and arguments of one script call."""


class Settlement(NamedTuple):
    """One terminal reply for `settle`; `reply` is `contract.WireReply` as JSON."""

    producer: str
    id: str
    status: Status
    reply: bytes

    @classmethod
    def of(cls, custom_id: str, status: Status, reply: bytes) -> "Settlement":
        """The same from `<producer>:<id>`, as batch files and manifests name a request."""
        producer, _, id = custom_id.partition(":")  # noqa: A001 - the field's name
        return cls(producer, id, status, reply)


def _named(one: Settlement) -> bytes:
    """Who is settled and how, as `settle` reads it."""
    producer, id, status = one.producer.encode(), one.id.encode(), one.status.encode()  # noqa: A001 - the field's name
    return b"%c%b%c%b%c%b" % (len(producer), producer, len(id), id, len(status), status)


class Scripts:
    """The scripts that both sides run against the data server."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.submit_script = load_script("groupage", "submit")
        self._settle = load_script("groupage", "settle")
        self._listen = load_script("groupage", "listen")
        self._discard = load_script("groupage", "discard")

    async def submit(
        self,
        lane: str,
        producer: str,
        priority: Priority,
        entries: Sequence[Entry],
        *,
        now_ms: int,
    ) -> Submitted:
        """Accept requests of one producer into one lane and priority; see `submit.lua`.

        Raises:
            redis.exceptions.RedisError: Whatever the server or the connection says.
        """
        page = SubmitPage()
        for entry in entries:
            page.add(entry.id, entry.deadline_at_ms, entry.tokens, entry.body_bytes, entry.value)
        call = self.pack_submit(lane, producer, priority, page, now_ms=now_ms)
        return Submitted.of(await self.submit_script(self._redis, *call))

    @staticmethod
    def pack_submit(lane: str, producer: str, priority: Priority, page: SubmitPage, *, now_ms: int) -> Call:
        """Keys and arguments of `submit`."""
        args: list[Any] = [
            keys.lane_prefix(lane),
            producer,
            now_ms,
            DUE_SLOT_MS,
            ORPHAN_TTL_MS,
            priority.value,
            *page.args,
        ]
        names = [
            keys.load(lane),
            keys.producer_load(lane, producer),
            keys.ready(lane, priority),
            keys.queue(lane, producer, priority),
        ]
        return names, args

    async def settle(
        self,
        lane: str,
        settlements: Sequence[Settlement],
        *,
        now_ms: int,
        reply_ttl_ms: int,
        batch: str | None = None,
    ) -> list[str]:
        """Write terminal replies; see `settle.lua` for the codes.

        Args:
            lane: Lane of all of them.
            settlements: The replies.
            now_ms: Unix ms on the server's clock.
            reply_ttl_ms: How long the replies can be read.
            batch: Only what this batch owes; None settles whoever holds the request.

        Raises:
            redis.exceptions.RedisError: Whatever the server or the connection says.
        """
        names = [keys.load(lane)] if batch is None else [keys.load(lane), keys.manifest(lane, batch)]
        # one argument for all that is short: packing three for each reply took longer than making it
        index = b"".join([_named(one) for one in settlements])
        args: list[Any] = [keys.lane_prefix(lane), now_ms, reply_ttl_ms, index]
        args += [one.reply for one in settlements]
        return [code.decode("ascii") for code in await self._settle(self._redis, names, args)]

    async def discard(self, lane: str, producer: str, id: str) -> bool:  # noqa: A002 - the word of the contract
        """Delete a reply; False if there is none.

        Raises:
            redis.exceptions.RedisError: Whatever the server or the connection says.
        """
        names = [
            keys.reply(lane, producer, id),
            keys.producer_load(lane, producer),
            keys.kept(lane, producer),
        ]
        return bool(await self._discard(self._redis, names, []))

    async def listen(self, lane: str, producer: str, ids: Sequence[str], client: str) -> list[bool]:
        """Have the settling of these requests notified to `client`; tells of each whether it is open.

        Raises:
            redis.exceptions.RedisError: Whatever the server or the connection says.
        """
        names = [keys.request(lane, producer, one) for one in ids]
        # the first call goes alone: it leaves the script on the server for the pipelines
        answers = [await self._listen(self._redis, names[:1], [client])] if names else []
        for start in range(1, len(names), LISTEN_PAGE):
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in names[start : start + LISTEN_PAGE]:
                    pipe.execute_command("EVALSHA", self._listen.sha, 1, name, client)
                answers += await pipe.execute()
        return [answer == 1 for answer in answers]


_ACCEPTED_AT: Final = 1 + CLIENT_CHARS
_DEADLINE_AT: Final = _ACCEPTED_AT + INSTANT_CHARS


def listener_of(code: str) -> str | None:
    """The client to notify, from a code of `settle`; None if this call did not settle the request."""
    return code[1 : 1 + CLIENT_CHARS] if code.startswith("s") else None


def settled_of(code: str) -> tuple[str, int, int] | None:
    """The same with accepted_at_ms and deadline_at_ms of the request."""
    if code[0] != "s":
        return None
    return code[1:_ACCEPTED_AT], int(code[_ACCEPTED_AT:_DEADLINE_AT]), int(code[_DEADLINE_AT:])


async def notify(redis: Redis, *, producer: str, client: str, lane: str, ids: Sequence[str]) -> None:
    """Tell one client process that replies are there; nothing happens if it listens no more.

    Raises:
        redis.exceptions.RedisError: Whatever the server or the connection says.
    """
    await redis.xadd(keys.inbox(producer, client), {"lane": lane, "ids": " ".join(ids)}, nomkstream=True)
