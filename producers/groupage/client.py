"""`Producer`: what a backend service uses to submit requests and to get their replies."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

from redis.asyncio import Redis

from groupage import checks, faults, records
from groupage.arrivals import arrivals
from groupage.clock import Clock, ServerClock, SystemClock
from groupage.connect import SOCKET_TIMEOUT_S, connect, disconnect
from groupage.contract import LaneInfo, Reply, Request, RequestStatus, Ticket
from groupage.durable import LEVEL_TIMEOUT_S, Levels
from groupage.encryption import KeyRing
from groupage.epoch import Epoch
from groupage.held import RESUBMIT_BYTES_MAX, Held
from groupage.inbox import Inbox
from groupage.intake import Intake
from groupage.items import Item, Key
from groupage.keeper import Keeper
from groupage.lanes import Lanes
from groupage.maker import Maker
from groupage.many import submit_all
from groupage.scripts import Scripts

SWEEP_S: Final = 30.0
"""How often replies are looked up although no notice came, and whether Redis has lost anything."""


class Producer:
    """A backend service's connection to groupage; one per process and event loop.

    Example:
        async with Producer("redis://localhost/0", name="catalog", lane="gpt-4o") as producer:
            ticket = await producer.submit({"messages": [{"role": "user", "content": "Hello"}]})
            reply = await producer.reply(ticket)

    Args:
        url: Redis of the data (`connect`); a function is asked for it at each new connection: passwords rotate.
        name: The producer's name, the same in all its processes; requests and replies belong to it.
        lane: Lane of calls that name none.
        durability: Level of accepts that name none: `memory`, `fsync` or `replicated`; see `Durability`.
        clock: Time source; the machine's clock by default, always corrected to the Redis server's.
        sweep_s: How often, in seconds, replies are looked up although no notice came, and whether Redis lost any.
        socket_timeout_s: Longest silence of one Redis answer, in seconds.
        durability_timeout_s: Longest wait for a level, in seconds; at most half of `socket_timeout_s`.
        resubmit_bytes_max: Memory for bodies that are submitted again should Redis lose them (`held`).
        keys_dir: Folder with this producer's keys: bodies and replies are encrypted in Redis (`encryption`).
        count_tokens: Counts the input tokens of a body's canonical JSON, as `tokens.TokenCounter`; else estimated.
        compress: Whether bodies are compressed in Redis (`compression`).

    Raises:
        InvalidRequest: If a name or the URL is malformed.
        EncryptionError: If the keys cannot be used.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        name: str,
        lane: str | None = None,
        durability: str = "memory",
        clock: Clock | None = None,
        sweep_s: float = SWEEP_S,
        socket_timeout_s: float = SOCKET_TIMEOUT_S,
        durability_timeout_s: float = LEVEL_TIMEOUT_S,
        resubmit_bytes_max: int = RESUBMIT_BYTES_MAX,
        keys_dir: Path | str | None = None,
        count_tokens: Callable[[bytes], int] | None = None,
        compress: bool = False,
    ) -> None:
        self.name = checks.check_producer(name)
        self._ring = ring = None if keys_dir is None else KeyRing(keys_dir, name)
        checks.check_seconds("durability_timeout_s", durability_timeout_s)
        client = self._client = checks.new_client()
        self._redis: Redis = connect(url, socket_timeout_s=socket_timeout_s)
        self._clock = ServerClock(clock or SystemClock())
        self._lanes = Lanes(self._redis, self._clock)
        self._held = held = Held(resubmit_bytes_max)
        self._epoch = epoch = Epoch(self._redis)
        shared: dict[str, Any] = {"producer": name, "clock": self._clock, "held": held, "epoch": epoch}
        levels = Levels(self._redis, timeout_s=min(durability_timeout_s, socket_timeout_s / 2))
        self._intake = Intake(self._redis, client=client, levels=levels, **shared)
        self._inbox = Inbox(self._redis, client=client, sweep_s=sweep_s, ring=ring, **shared)
        self._keeper = Keeper(
            self._redis, sweep_s=sweep_s, put=self._intake.put, after=self._inbox.listen_again, **shared
        )
        self._maker = Maker(
            producer=name,
            lane=lane,
            durability=durability,
            lanes=self._lanes,
            epoch=self._epoch,
            before=self._keeper.start,
            ring=ring,
            count_tokens=count_tokens,
            compress=compress,
        )
        self.lane, self.durability = self._maker.lane, self._maker.durability

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await disconnect(self._redis)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Try the connection and measure the server's time; every other call would do so by itself.

        Raises:
            Unavailable: If Redis cannot be used.
        """
        with faults.reading():
            await self._clock.sync(self._redis)
            await self._epoch.open(self.lane)

    async def aclose(self) -> None:
        """Send what is queued, end all waits, close the connections. Requests and replies stay."""
        await self._keeper.close()
        await self._intake.close()
        await self._inbox.close()
        await disconnect(self._redis)

    async def submit(
        self,
        body: dict[str, Any] | bytes | str,
        *,
        lane: str | None = None,
        id: str | None = None,  # noqa: A002 - the word every caller uses
        priority: str = "normal",
        deadline_s: float | None = None,
        tokens: int | None = None,
        durability: str | None = None,
    ) -> Ticket:
        """Submit one request. Calls that run at the same time share their way to Redis.

        Args:
            body: Request body of the lane's endpoint; `model` is dropped, the worker writes it.
            lane: Lane; the producer's by default.
            id: Your id; submitting the same id and body again is no second request. Made if absent.
            priority: `urgent`, `normal` or `bulk`.
            deadline_s: Seconds until the request expires; the lane's default otherwise.
            tokens: Your own count of input tokens; counted or estimated if absent.
            durability: Level to reach before the ticket is there; the producer's by default.

        Raises:
            InvalidRequest: If the request can never be accepted as it is.
            UnknownLane: If no worker announced the lane.
            IdConflict: If the id is taken by another body.
            Overloaded: If the lane, your share of it, or Redis is full.
            DurabilityMissing: If Redis does not know the level; nothing was accepted.
            Unavailable: If Redis cannot be used; nothing was accepted.
            Uncertain: If the answer got lost, or the level was not reached in time; repeat with the same id.
        """
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        request = Request(body=body, id=id, priority=priority, deadline_s=deadline_s, tokens=tokens)
        made = self._maker.make(request, lane, self._maker.level(durability), future)
        del request  # thousands may wait here at once
        item = made if isinstance(made, Item) else await made
        if not self._intake.put_now(item):
            await self._intake.put(item)
        return await future

    async def submit_many(
        self, requests: Iterable[Request], *, lane: str | None = None, durability: str | None = None
    ) -> list[Ticket]:
        """Submit many requests; their tickets come in the same order.

        Args:
            requests: Any iterable; it is read as fast as Redis takes the requests.
            lane: Lane of requests that name none; the producer's by default.
            durability: Level to reach before the tickets are there; the producer's by default.

        Raises:
            SubmitErrors: If some were refused, with the tickets of the others; errors as of `submit`.
        """
        level, make = self._maker.level(durability), self._maker.make
        return await submit_all(
            self._intake, requests, lambda one, group, i: make(one, one.lane or lane, level, group, i)
        )

    async def reply(
        self, ticket: Ticket | str, *, lane: str | None = None, timeout_s: float | None = None
    ) -> Reply:
        """Wait for the reply of one request, submitted by this or any process of this producer.

        Reading does not destroy it: it can be read again until it expires or is discarded.

        Args:
            ticket: Ticket or id.
            lane: Lane of an id; the producer's by default.
            timeout_s: Longest wait, seconds; None waits for ever.

        Raises:
            ReplyTimeout: If none came in time; the request goes on.
            UnknownRequest: If there is neither an open request nor a reply of this id.
            Unavailable: If Redis refuses this user, or the producer was closed.
        """
        key, is_ours = self._wanted(ticket, lane)
        return await self._inbox.reply(key, is_ours=is_ours, timeout_s=timeout_s)

    def replies(
        self,
        tickets: Iterable[Ticket | str],
        *,
        lane: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Reply, None]:
        """The replies of many requests, each as it arrives.

        Args:
            tickets: Tickets or ids; each request once.
            lane: Lane of ids; the producer's by default.
            timeout_s: Longest time for all of them together, seconds.

        Raises:
            ReplyTimeout: If one is missing when the time is over, naming it.
            UnknownRequest: As of `reply`, but after all other replies were handed out.
            Unavailable: As of `reply`.
        """
        return arrivals(self._inbox, (self._wanted(ticket, lane) for ticket in tickets), timeout_s)

    async def cancel(self, ticket: Ticket | str, *, lane: str | None = None) -> Reply:
        """Take a request back; returns the terminal reply that stands, which may be another one by now.

        What the service already did is billed. Lines that are in a running batch are not taken out of it.

        Raises:
            UnknownRequest: If there is neither an open request nor a reply of this id.
            UnknownLane: If no worker announced the lane.
            Unavailable: If Redis cannot be used; nothing changed.
            Uncertain: If the answer got lost; repeat the call.
        """
        (lane_name, request_id), _ = self._key(ticket, lane)
        info = self._lanes.peek(lane_name) or await self._lanes.get(lane_name)
        with faults.writing():
            await self._clock.sync(self._redis)
            reply = await records.cancel(
                self._redis,
                lane=lane_name,
                producer=self.name,
                id=request_id,
                now_ms=self._clock.now_ms(),
                reply_ttl_ms=round(info.reply_ttl_s * 1_000),
                ring=self._ring,
            )
        self._held.release((lane_name, request_id))
        return reply

    async def status(self, ticket: Ticket | str, *, lane: str | None = None) -> RequestStatus:
        """Where a request is, without its reply.

        Raises:
            UnknownRequest: If there is neither an open request nor a reply of this id.
            Unavailable: If Redis cannot be read.
        """
        (lane_name, request_id), _ = self._key(ticket, lane)
        with faults.reading():
            return await records.read_status(self._redis, lane=lane_name, producer=self.name, id=request_id)

    async def discard(self, ticket: Ticket | str, *, lane: str | None = None) -> bool:
        """Delete a reply that is not needed any more, which counts for the producer's limit; True if there was one.

        Raises:
            Unavailable: If Redis cannot be used.
            Uncertain: If the answer got lost; repeat the call.
        """
        (lane_name, request_id), _ = self._key(ticket, lane)
        self._held.release((lane_name, request_id))
        with faults.writing():
            return await Scripts(self._redis).discard(lane_name, self.name, request_id)

    async def lanes(self) -> dict[str, LaneInfo]:
        """Every lane that workers announced.

        Raises:
            Unavailable: If Redis cannot be read.
        """
        return await self._lanes.all()

    def _wanted(self, ticket: Ticket | str, lane: str | None) -> tuple[Key, bool]:
        """The same for a wait: from now on losses are noticed."""
        self._keeper.start()
        return self._key(ticket, lane)

    def _key(self, ticket: Ticket | str, lane: str | None) -> tuple[Key, bool]:
        """Lane and id, and whether notices of this request come to this process."""
        if isinstance(ticket, Ticket):
            return (ticket.lane, ticket.id), ticket.client == self._client
        key = checks.check_lane(self.lane if lane is None else lane), checks.check_id(ticket, self.name)
        return key, False
