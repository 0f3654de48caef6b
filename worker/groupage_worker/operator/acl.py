"""`groupage acl`: an ACL file for Redis or Valkey in which every user may do what its role does, and nothing else.

Patterns end with a delimiter or a fixed word, and names hold neither `:` nor `{`, so that no pattern of one producer
reaches a key of another (reliability.md 7.3, 2026-11-20). Scripts run with the rights of their caller: what a script does
inside has to be allowed to whoever calls it.
"""
# ruff: noqa: T201 - what a command says is printed

import dataclasses
import hashlib
import os
import secrets
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from groupage import checks
from groupage_worker.operator import show
from groupage_worker.operator.errors import Mistake

PASSWORD_BYTES: Final = 32
PASSWORD_CHARS_MIN: Final = 16

_CONNECT: Final = ("ping", "auth", "hello", "select", "quit", "client|setname", "cluster|slots", "command")
_SINCE_72: Final = frozenset({"client|setinfo", "waitaof"})
"""Unknown to Redis 7.0, which refuses to start on a file that names them (reliability.md 7.3, 2026-11-20)."""

_PRODUCER: Final = (
    *("client|setinfo", "time", "evalsha", "eval", "wait", "waitaof"),
    *("get", "set", "getrange", "setrange", "strlen", "mget", "exists", "del", "unlink"),
    *("expire", "pexpire", "pexpiretime"),
    *("hget", "hset", "hmget", "hgetall", "hincrby", "hdel"),
    *("rpush", "zadd", "zrange", "xadd", "xread", "xtrim"),
)
_WORKER: Final = (
    *("client|setinfo", "time", "evalsha", "eval", "info", "config|get", "dbsize", "scan"),
    *("multi", "exec", "discard", "watch", "unwatch"),
    *("get", "set", "psetex", "getrange", "setrange", "strlen", "mget", "exists", "del", "unlink", "incrby"),
    *("expire", "pexpire", "pexpiretime", "pttl", "ttl"),
    *("hget", "hset", "hsetnx", "hmget", "hgetall", "hvals", "hkeys", "hlen", "hexists", "hincrby", "hdel"),
    *("lindex", "llen", "lrange", "lpop", "lpush", "rpush", "lrem", "ltrim"),
    *("zadd", "zcard", "zincrby", "zrange", "zrangebyscore", "zrem", "zscan", "zscore"),
    *("xadd", "xtrim"),
    # the chart's trial, and `groupage submit` and `collect` from a worker's pod, wait for replies
    "xread",
)
_OPERATOR: Final = (
    *("client|setinfo", "time", "evalsha", "eval", "scan"),
    *("get", "set", "getrange", "exists", "unlink", "pexpire", "pexpiretime", "strlen"),
    *("hget", "hset", "hmget", "hgetall", "hvals", "hkeys", "hexists", "hincrby", "hdel"),
    *("lindex", "lpop", "lrange", "zadd", "zrange", "zrem", "zscan", "xadd"),
    # `submit` and `collect` for any producer; the user reaches the same keys by SET and GET anyway
    *("rpush", "setrange", "mget", "expire", "xread", "xtrim"),
)
_METRICS: Final = (
    *("client|setinfo", "info", "dbsize", "latency|latest", "slowlog|len"),
    *("hget", "hmget", "hgetall", "hvals", "hlen", "zcard", "zcount", "llen"),
)
_REPLICA: Final = ("psync", "replconf")
_SENTINEL: Final = (
    *("multi", "exec", "slaveof", "replicaof", "config|rewrite", "client|kill", "script|kill"),
    *("info", "role", "publish", "subscribe", "failover"),
)
"""What Redis' manual grants a Sentinel (redis.io, "ACL rules for Sentinel and Replicas", copies read 2026-11-21), and
REPLICAOF and FAILOVER, which newer servers use (Valkey 9.0; from a public guide, 2026-11-21)."""

_SENTINELS_CHANNEL: Final = "__sentinel__:hello"

LOUD: Final = """\
ACL LOAD ends every user that is not in this file, at once and with its connections: add the lines of your
administrator, and of whoever else logs in, before you load it. `default` is switched off. Before that give every
server `masteruser replica` and its `masterauth`, and every Sentinel `sentinel auth-user NAME sentinel` and its
`sentinel auth-pass`: without them replication and failover stop (docs/security.md)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user: its name, commands, the keys it may read and write, those it may only read, and channels."""

    name: str
    commands: tuple[str, ...]
    keys: tuple[str, ...] = ()
    read_keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def rules(self, *, is_70: bool = False) -> list[str]:
        """What stands in the file behind the name and the password."""
        commands = [one for one in (*_CONNECT, *self.commands) if not (is_70 and one in _SINCE_72)]
        return [
            *("resetchannels", "-@all"),
            *(f"+{one}" for one in commands),
            *(f"~{one}" for one in self.keys),
            *(f"%R~{one}" for one in self.read_keys),
            *(f"&{one}" for one in self.channels),
        ]

    def line(self, password: str, *, is_70: bool = False) -> str:
        """The line of the file; of the password only its SHA-256."""
        digest = hashlib.sha256(password.encode()).hexdigest()
        return " ".join([f"user {self.name} on #{digest}", *self.rules(is_70=is_70)])


def producer_user(name: str) -> User:
    """A backend service: its own requests, replies and inbox; the shared counters, turns and deadlines of lanes."""
    checks.check_producer(name)
    return User(
        name=f"producer-{name}",
        commands=_PRODUCER,
        keys=(
            "g1:{*}:p:" + name + ":*",
            f"g1:inbox:{name}:*",
            "g1:{*}:load",
            "g1:{*}:ready:*",
            "g1:{*}:due:*",
        ),
        read_keys=("g1:lanes", "g1:epoch", "g1:{*}:epoch"),
    )


def staff() -> list[User]:
    """The fleet's own users, and those of the servers among themselves."""
    return [
        User(name="worker", commands=_WORKER, keys=("g1:*", "arq:*")),
        User(name="operator", commands=_OPERATOR, keys=("g1:*",)),
        User(
            name="metrics",
            commands=_METRICS,
            read_keys=(
                "g1:lanes",
                "g1:epoch",
                "g1:{*}:epoch",
                "g1:{*}:load",
                "g1:{*}:p:*:load",
                "g1:{*}:ready:*",
                "g1:due:*",
                "g1:quota:*",
            ),
        ),
        User(name="replica", commands=_REPLICA),
        User(name="sentinel", commands=_SENTINEL, channels=(_SENTINELS_CHANNEL,)),
    ]


def acl_lines(users: Iterable[User], passwords: Path, *, is_70: bool) -> Iterator[str]:
    """The file: nobody may do anything but these users.

    Raises:
        Mistake: If a password cannot be read or made.
    """
    yield "user default off resetpass resetkeys resetchannels -@all"
    for user in users:
        yield user.line(_password(passwords / user.name), is_70=is_70)


def _password(path: Path) -> str:
    """The password in a file; made where there is none, for its owner's eyes only."""
    try:
        try:
            # with its rights from the first moment
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(PASSWORD_BYTES))
        except FileExistsError:
            pass
        password = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not UTF-8 text"
        raise Mistake(f"--passwords: {path} cannot be used ({reason})") from None
    if len(password) < PASSWORD_CHARS_MIN:
        raise Mistake(f"--passwords: {path} holds fewer than {PASSWORD_CHARS_MIN} characters")
    return password


async def acl(args: Namespace) -> int:
    """Print the file."""
    if not args.passwords.is_dir():
        raise Mistake(f"--passwords {args.passwords}: is not a folder")
    users = [*([] if args.no_staff else staff()), *map(producer_user, dict.fromkeys(args.producer))]
    if not users:
        raise Mistake("--no-staff without --producer leaves no user")
    lines = list(acl_lines(users, args.passwords, is_70=args.redis == "7.0"))
    if args.json:
        show.as_json([{"user": user.name, "rules": user.rules(is_70=args.redis == "7.0")} for user in users])
    else:
        show.lines(lines)
    print(f"{len(users)} users; their passwords are in {args.passwords}\n{LOUD}", file=sys.stderr)
    return 0
