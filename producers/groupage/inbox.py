"""Waiting for replies: one blocking connection per process, however many waits there are.

A stream of this process, its inbox, brings hints that replies arrived; the replies themselves are read with
MGET. Hints may get lost (a worker died, Redis restarted), so everything outstanding is also looked up at
once after it was registered, after each reconnect, and every `sweep_s`. Nothing here runs per wait.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Coroutine
from typing import Any, Final

from redis.asyncio import Redis

from groupage import faults, keys
from groupage.clock import ServerClock
from groupage.contract import Reply
from groupage.encryption import KeyRing
from groupage.epoch import Epoch
from groupage.errors import GroupageError, ReplyTimeout, Unavailable
from groupage.held import Held
from groupage.items import Key
from groupage.lookup import PAGE, Lookup

BLOCK_S: Final = 5.0
"""Longest XREAD; below `connect.SOCKET_TIMEOUT_S`."""

INBOX_TTL_S: Final = 3_600
"""An inbox outlives its process by at most this; whoever waits renews it with every sweep."""

LOOK_AGAIN_S: Final = 1.0
"""A request that is gone is looked for again after this, until a worker has confirmed the server's history."""

CANCEL_AGAIN_S: Final = 0.05

BACKOFF_S: Final = (0.05, 3.0)
"""First and longest pause before reconnecting."""

_log = logging.getLogger("groupage")


class Inbox:
    """Futures of replies, by lane and id."""

    def __init__(
        self,
        redis: Redis,
        *,
        producer: str,
        client: str,
        clock: ServerClock,
        sweep_s: float,
        held: Held,
        epoch: Epoch,
        ring: KeyRing | None,
    ) -> None:
        self._redis = redis
        self._lookup = Lookup(redis, producer=producer, client=client, epoch=epoch, ring=ring)
        self._client = client
        self._clock = clock
        self._sweep_s = sweep_s
        self._held = held
        self._epoch = epoch
        self._stream = keys.inbox(producer, client)
        self._last_id: str | None = None
        self._renew_at_s = 0.0
        self._waits: dict[Key, list[asyncio.Future[Reply]]] = {}
        self._look: dict[Key, None] = {}
        self._listen: set[Key] = set()
        self._is_sweep = False
        self._wake = asyncio.Event()
        self._has_waits = asyncio.Event()
        self._has_stream = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def wait(self, key: Key, *, is_ours: bool) -> "asyncio.Future[Reply]":
        """A future for the reply; end it with `drop`.

        Args:
            key: Lane and id.
            is_ours: Whether this very process submitted it, so that notices come here anyway.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waits.setdefault(key, []).append(future)
        self._look[key] = None
        if is_ours or key in self._held:
            self._lookup.sure.add(key)
        if not is_ours:
            self._listen.add(key)
        self._wake.set()
        self._has_waits.set()
        if not self._tasks:
            self._tasks = [self._spawn(self._check_for_ever()), self._spawn(self._read_for_ever())]
        return future

    async def reply(self, key: Key, *, is_ours: bool, timeout_s: float | None) -> Reply:
        """Wait for one reply; see `Producer.reply`."""
        future = self.wait(key, is_ours=is_ours)
        try:
            if timeout_s is None:
                return await future
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            if timeout_s is None:
                raise
            raise ReplyTimeout(key[1], timeout_s) from None
        finally:
            # whoever has a reply was forgotten with it
            if key in self._waits:
                self.drop(key, future)

    def drop(self, key: Key, future: "asyncio.Future[Reply]") -> None:
        """Forget one wait; harmless if it is over."""
        futures = self._waits.get(key)
        if futures is not None and future in futures:
            futures.remove(future)
            if not futures:
                del self._waits[key]
                self._listen.discard(key)
                self._lookup.forget(key)

    def listen_again(self) -> None:
        """Look everything up, and have all notices come here: what Redis knows of us may be gone."""
        self._listen.update(self._waits)
        self._sweep()

    async def close(self) -> None:
        """End all waits and the inbox."""
        tasks, self._tasks = set(self._tasks), []
        if self._again is not None:
            self._again.cancel()
        while tasks:
            for task in tasks:
                task.cancel()
            # again and again: inside redis-py's timeouts a cancel can get lost (arq-redis.md 0.6, 2026-11-20)
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)
        self._fail_all(Unavailable("the producer was closed while waiting; ask again with the same id"))
        if self._last_id is not None:
            with contextlib.suppress(*faults.BROKEN):  # tidiness only: its time to live ends it too
                await self._redis.unlink(self._stream)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or task not in self._tasks:
            return
        # both tasks run for ever; one that ends did so by an error that waiting does not mend
        error = task.exception()
        others, self._tasks = self._tasks, []
        for other in others:
            other.cancel()
        if not isinstance(error, GroupageError):
            _log.error("groupage: waiting for replies failed", exc_info=error)
        self._fail_all(error or Unavailable("waiting for replies ended"))

    def _fail_all(self, error: BaseException) -> None:
        waits, self._waits = self._waits, {}
        self._look.clear()
        self._listen.clear()
        self._has_waits.clear()
        for futures in waits.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    async def _read_for_ever(self) -> None:
        """Follow the inbox while anybody waits, and order the sweeps."""
        sweep_at_s = self._clock.monotonic_s() + self._sweep_s
        pause_s = BACKOFF_S[0]
        while True:
            await self._has_waits.wait()
            await self._has_stream.wait()
            try:
                await self._read()
                pause_s = BACKOFF_S[0]
            except faults.BROKEN as error:
                pause_s = await self._back_off(error, pause_s)
                sweep_at_s = float("-inf")  # notices may have passed by meanwhile
            if self._clock.monotonic_s() >= sweep_at_s:
                sweep_at_s = self._clock.monotonic_s() + self._sweep_s
                self._sweep()
            if not self._waits:
                self._has_waits.clear()

    async def _read(self) -> None:
        block_ms = max(1, int(min(BLOCK_S, self._sweep_s) * 1_000))
        after: Any = {self._stream: self._last_id}
        answer = await self._redis.xread(after, count=PAGE, block=block_ms)
        for _, entries in answer:
            for entry_id, fields in entries:
                self._last_id = entry_id.decode()
                lane = fields.get(b"lane", b"").decode()
                for one in fields.get(b"ids", b"").decode().split():
                    if (lane, one) in self._waits:
                        self._look[lane, one] = None
        if self._look:
            self._wake.set()

    def _sweep(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._look.update(dict.fromkeys(self._waits))
        self._is_sweep = True
        self._wake.set()

    async def _check_for_ever(self) -> None:
        """Look up whatever may have a reply."""
        pause_s = BACKOFF_S[0]
        while True:
            await self._wake.wait()
            self._wake.clear()
            look, self._look = self._look, {}
            is_sweep, self._is_sweep = self._is_sweep, False
            try:
                await self._keep_stream(is_sweep=is_sweep)
                for lane in {lane for lane, _ in look}:
                    await self._check(lane, [one for name, one in look if name == lane], is_sweep=is_sweep)
                pause_s = BACKOFF_S[0]
            except faults.BROKEN as error:
                pause_s = await self._back_off(error, pause_s)
                self._sweep()
            if self._lookup.is_unsure and self._again is None:
                wait_s = min(LOOK_AGAIN_S, self._sweep_s)
                self._again = asyncio.get_running_loop().call_later(wait_s, self._sweep)

    async def _back_off(self, error: BaseException, pause_s: float) -> float:
        """Wait before the next try; returns the pause after that.

        Raises:
            Unavailable: If trying again cannot help.
        """
        if faults.is_locked_out(error):
            raise Unavailable(f"Redis refuses this user: {error}") from error
        _log.warning(
            "groupage: waiting for replies, Redis cannot be read, again in %.2g s: %s", pause_s, error
        )
        self._epoch.look.set()  # what comes back may be another history
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        return min(BACKOFF_S[1], pause_s * 2)

    async def _keep_stream(self, *, is_sweep: bool) -> None:
        """Have the stream there before anything is looked up: a notice finds it from now on."""
        now_s = self._clock.monotonic_s()
        if self._last_id is not None:
            if not is_sweep and now_s < self._renew_at_s:
                return
            self._renew_at_s = now_s + self._sweep_s
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.expire(self._stream, INBOX_TTL_S)
                pipe.xtrim(self._stream, minid=self._last_id, approximate=False)
                if (await pipe.execute())[0]:
                    return
        hello = await self._redis.xadd(self._stream, {"hello": self._client})
        await self._redis.expire(self._stream, INBOX_TTL_S)
        self._last_id = hello.decode()
        self._renew_at_s = now_s + self._sweep_s
        self._has_stream.set()

    async def _check(self, lane: str, ids: list[str], *, is_sweep: bool) -> None:
        foreign = [one for one in ids if (lane, one) in self._listen] if self._listen else []
        try:
            async for page in self._lookup.outcomes(lane, ids, foreign=foreign, is_sweep=is_sweep):
                for key, outcome in page:
                    self._settle(key, outcome)
            self._listen.difference_update((lane, one) for one in foreign)
        finally:
            # whoever stopped waiting meanwhile was forgotten before this could note anything of them
            for one in ids if foreign or self._lookup.is_unsure else ():
                if (lane, one) not in self._waits:
                    self._lookup.forget((lane, one))

    def _settle(self, key: Key, outcome: Reply | Exception) -> None:
        self._held.release(key)
        self._lookup.forget(key)
        for future in self._waits.pop(key, ()):
            if future.done():
                continue
            if isinstance(outcome, Reply):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
