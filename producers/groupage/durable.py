"""Durable accept: script calls sent as one group, and one barrier behind them that waits for the level.

`memory` is the script's answer. `fsync` waits with `WAITAOF 1 0` until the group is on the server's disk (Redis 7.2 or
Valkey 8, with `appendonly yes`). `replicated` waits with `WAIT 1` until a replica has it in its memory: that survives
the loss of the primary with all its disks, takes no longer than the network, and works on every version, while
`WAITAOF 1 1` takes about a second, because a replica tells of its fsync once a second (arq-redis.md 4.3, 2026-11-20).

Both commands wait for what *their connection* wrote last, and a repeated request writes nothing. So a group ends with
a small write of its own: later in the log than whatever it repeats, by whichever connection that was written.
"""

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisError, ResponseError

from groupage import faults
from groupage.contract import Durability
from groupage.errors import DurabilityMissing
from groupage.scripts import Call, Script

LEVEL_TIMEOUT_S: Final = 5.0
"""Longest wait for a level: an fsync is due every second, and a disk that stalls for several is a fault."""

MARK: Final = "group_commits"
"""Field of the producer's load that the write of a group's own counts in."""

_PROBE_MS: Final = 1


class Levels:
    """Brings groups of calls to a level of durability.

    Args:
        redis: The data server.
        timeout_s: Longest wait for a level; below the socket's timeout, or each wait would look like a dead server.
    """

    def __init__(self, redis: Redis, *, timeout_s: float = LEVEL_TIMEOUT_S) -> None:
        self._redis = redis
        self.timeout_s = timeout_s
        self._known: set[Durability] = set()

    async def check(self, level: Durability) -> None:
        """See once that the server knows the level at all, before anything is sent that would wait for it.

        Raises:
            DurabilityMissing: If it does not.
            redis.exceptions.RedisError: Whatever else the server or the connection says.
        """
        if level is Durability.MEMORY or level in self._known:
            return
        if isinstance(self._redis, RedisCluster):
            # keyless commands of a cluster client go to any node, over any connection
            raise DurabilityMissing(level.value, "a Redis Cluster is not supported, only `memory` is")
        run: Any = self._redis.execute_command  # redis-py leaves it untyped
        try:
            # no replica is waited for: that there is one now says nothing about the next call
            await run(*(("WAITAOF", 1, 0) if level is Durability.FSYNC else ("WAIT", 0)), _PROBE_MS)
        except ResponseError as error:
            if faults.is_locked_out(error) or faults.is_unsent(error):
                raise
            raise DurabilityMissing(level.value, str(error)) from error
        self._known.add(level)

    async def run(
        self, level: Durability, script: Script, calls: Sequence[Call], mark: str
    ) -> tuple[list[Any], str | None]:
        """Run the calls of a script as one group and wait for the level.

        Args:
            level: Above `memory`.
            script: What to call.
            calls: Keys and arguments of each call.
            mark: Hash that the group's own write goes to.

        Returns:
            Answer or error of each call, and why the level was not reached; None if it was.

        Raises:
            redis.exceptions.RedisError: If the connection broke.
        """
        answers = await self._send(level, script, calls, mark, is_known=True)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            answers = await self._send(level, script, calls, mark, is_known=False)
        *done, marked, reached = answers
        trouble = next((one for one in (marked, reached) if isinstance(one, RedisError)), None)
        if trouble is not None:
            self._known.discard(level)
            return done, str(trouble)
        count = reached[0] if level is Durability.FSYNC else reached
        return done, None if count >= 1 else f"not reached within {self.timeout_s:g} s"

    async def _send(
        self, level: Durability, script: Script, calls: Sequence[Call], mark: str, *, is_known: bool
    ) -> list[Any]:
        wait = ("WAITAOF", 1, 0) if level is Durability.FSYNC else ("WAIT", 1)
        async with self._redis.pipeline(transaction=False) as pipe:
            for index, (names, args) in enumerate(calls):
                # the first call may bring the source; the others find it on the server then
                how = ("EVALSHA", script.sha) if is_known or index else ("EVAL", script.source)
                pipe.execute_command(*how, len(names), *names, *args)
            pipe.execute_command("HINCRBY", mark, MARK, 1)
            pipe.execute_command(*wait, max(1, round(self.timeout_s * 1_000)))
            return await pipe.execute(raise_on_error=False)
