"""Batches in flight as the scheduler sees them, and what it does to them, on the control server."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping

from groupage import keys
from groupage.clock import Clock
from groupage.scripts import load_script
from groupage_worker.models import Batch
from groupage_worker.scheduling.moves import TO_ONLINE
from groupage_worker.states import BatchState
from groupage_worker.store.client import RedisClient

PAGE = 500


def rest_of(batch: Batch) -> Batch:
    """The batch that takes the rest of one that is moved; its id follows, so that a repeated step makes the same.

    At the online deployment it has no file: its requests are asked one by one.
    """
    return Batch(
        id=f"{batch.id}-{batch.attempt}",
        lane=batch.lane,
        deployment=batch.target,
        state=BatchState.ANSWERING if batch.move_reason == TO_ONLINE else BatchState.SEALED,
        fence=0,
    )


class MoveStore:
    """Reads records without taking their fences, and moves batches between deployments."""

    def __init__(self, redis: RedisClient, *, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._move = load_script("groupage_worker", "move_batch")
        self._land = load_script("groupage_worker", "land_batch")
        self._give_up = load_script("groupage_worker", "give_up")
        self._release = load_script("groupage_worker", "release_orphan")
        self._shrink = load_script("groupage_worker", "shrink")
        self._sent: dict[str, dict[str, Batch]] = {}

    async def holders(self, attempts: Iterable[str]) -> list[Batch]:
        """The records behind reservations, the oldest first; those that are gone or unreadable are left out."""
        return await self.records({attempt.rpartition(":")[0] for attempt in attempts})

    async def sent(
        self,
        deployment: str,
        holding: Collection[str],
        *,
        wanted: Callable[[str], bool] = lambda _: True,
        is_enough: Callable[[Batch], bool] = lambda _: True,
    ) -> list[Batch]:
        """Like `holders`, but what was once seen at the service is read again only where that is needed.

        What an attempt sent never changes, and thousands of attempts are looked at several times a minute.

        Args:
            deployment: Whose reservations.
            holding: All its attempts that hold one: what is remembered of others is forgotten.
            wanted: Which of the attempts.
            is_enough: Whether the record as it was when it was read last will do.
        """
        kept = {name: batch for name, batch in self._sent.get(deployment, {}).items() if name in holding}
        chosen = [name for name in holding if wanted(name)]
        known = [kept[name] for name in chosen if name in kept and is_enough(kept[name])]
        done = {batch.reservation for batch in known}
        fresh = await self.holders(name for name in chosen if name not in done)
        kept |= {batch.reservation: batch for batch in fresh if batch.state is BatchState.SUBMITTED}
        self._sent[deployment] = kept
        found = {batch.id: batch for batch in (*known, *fresh)}
        return [found[name] for name in sorted(found)]

    def forget(self) -> None:
        """Read every record anew: the server's history is another one."""
        self._sent.clear()

    async def records(self, batches: Iterable[str]) -> list[Batch]:
        """The records of batches, the oldest first; those that are gone or unreadable are left out."""
        names = sorted(set(batches))
        found = []
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in page:
                    pipe.hgetall(keys.batch(name))
                answers = await pipe.execute()
            found += [Batch.read(name, raw) for name, raw in zip(page, answers, strict=True)]
        return [batch for batch in found if batch]

    async def wish(self, batch: Batch, target: str, *, tokens: int, limit: int, reason: str) -> bool:
        """Wish that a submitted batch goes elsewhere; its step, due at once, cancels it.

        Args:
            batch: The batch as it was read.
            target: Deployment; room for the rest is held there from now on.
            tokens: To hold.
            limit: Tokens that may be reserved at the target in all.
            reason: Word for logs and metrics.

        Returns:
            False if the batch has ended meanwhile, or the target has no room.
        """
        rest = rest_of(dataclasses.replace(batch, target=target))
        return bool(
            await self._move(
                self._redis,
                [keys.batch(batch.id), keys.quota(target), keys.DUE_LIGHT],
                [rest.reservation, tokens, limit, target, reason, batch.step, self._clock.now_ms()],
            )
        )

    async def give_up(self, batch: Batch) -> None:
        """Give back the room that is held for the rest of a batch, unless that has landed. Its record must then lose its target."""
        rest = rest_of(batch)
        await self._give_up(self._redis, [keys.batch(rest.id), keys.quota(batch.target)], [rest.reservation])

    async def land(self, batch: Batch, rest: Batch, *, limit: int) -> bool:
        """Open the record of the rest of a batch at its target; False if its room there was given away.

        Args:
            batch: The one that was cancelled.
            rest: Of `rest_of`, with its tokens and lines.
            limit: Tokens that may be reserved at the target in all.
        """
        now = self._clock.now_ms()
        record: dict[str, str | int] = {
            "lane": rest.lane,
            "deployment": rest.deployment,
            "state": rest.state.value,
            "fence": 0,
            "runs": 0,
            "attempt": 1,
            "opened_at_ms": now,
            "state_at_ms": now,
            "tokens": rest.tokens,
            "reserve_tokens": rest.reserve_tokens,
            "lines": rest.lines,
            "is_urgent": batch.is_urgent,
            "deadline_at_ms": batch.deadline_at_ms,
            "moves": batch.moves + 1,
            "parent": batch.id,
            "epoch": batch.epoch,
        }
        return bool(
            await self._land(
                self._redis,
                [keys.batch(rest.id), keys.quota(rest.deployment), keys.DUE_HEAVY],
                [
                    *(rest.reservation, rest.reserve_tokens, limit, rest.step, now),
                    *(part for pair in record.items() for part in pair),
                ],
            )
        )

    async def release_orphan(self, deployment: str, attempt: str) -> int:
        """Give back a reservation for which nobody answers any more; returns its tokens, 0 if somebody does."""
        name, _, number = attempt.rpartition(":")
        parent = name.rpartition("-")[0] or name
        return int(
            await self._release(
                self._redis,
                [keys.batch(name), keys.quota(deployment), keys.batch(parent)],
                [attempt, number],
            )
        )

    async def shrink(self, deployment: str, wanted: Mapping[str, int]) -> int:
        """Lower reservations that are more than wanted; returns the tokens that are free by that.

        Args:
            deployment: Where.
            wanted: `batch:attempt` -> tokens.
        """
        if not wanted:
            return 0
        flat = [part for pair in wanted.items() for part in pair]
        return int(await self._shrink(self._redis, [keys.quota(deployment)], flat))
