"""Control state: batch records, due steps, the quota ledger, and what was learned of deployments."""

import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping

from groupage import keys
from groupage.clock import Clock
from groupage.scripts import load_script
from groupage_worker.errors import FenceLost
from groupage_worker.models import KEEP, Batch, Move
from groupage_worker.states import LEGAL, BatchState
from groupage_worker.store.client import RedisClient
from groupage_worker.store.deployments import DeploymentState
from groupage_worker.store.history import EVENTS_MAX, event_of
from groupage_worker.store.knowledge import KnowledgeStore
from groupage_worker.store.looks import LookStore
from groupage_worker.store.moves import MoveStore
from groupage_worker.store.refusals import RefusalStore

PAGE = 500
"""Names per look at a due set."""

DEATH_MS = 3_000
"""A begin without a commit that is older was a death: a step that is only run twice at once, or that lost Redis for a
moment, comes again sooner, and a killed worker's after its lease of six seconds."""


class BatchStore:
    """Records of batches and everything that is due, on the control server; a reload changes `closed_s`."""

    def __init__(self, redis: RedisClient, *, clock: Clock, closed_s: float) -> None:
        self._redis = redis
        self._clock = clock
        self.closed_s = closed_s
        self._open = load_script("groupage_worker", "open_batch")
        self._drop = load_script("groupage_worker", "unschedule")
        self._begin = load_script("groupage_worker", "begin")
        self._commit = load_script("groupage_worker", "commit")
        self._split = load_script("groupage_worker", "split_batch")
        self._schedule = load_script("groupage_worker", "schedule")
        self._note = load_script("groupage_worker", "note")
        self._adopt = load_script("groupage_worker", "adopt_batch")
        self.known = KnowledgeStore(redis)
        self.moves = MoveStore(redis, clock=clock)
        self.refusals = RefusalStore(redis)
        self.looks = LookStore(redis, clock=clock)

    async def open(self, batch: Batch, *, tokens: int, limit: int) -> bool:
        """Create the record with its reservation, due at once; False if the deployment has no room.

        Args:
            batch: Its `tokens` are the estimated ones it may be filled with; 0: as many as are reserved.
            tokens: To reserve, as the service will count them.
            limit: Tokens that may be reserved at the deployment in all.
        """
        now = self._clock.now_ms()
        record = {
            "lane": batch.lane,
            "deployment": batch.deployment,
            "state": batch.state.value,
            "fence": 0,
            "runs": 0,
            "attempt": batch.attempt,
            "opened_at_ms": now,
            "state_at_ms": now,
            "tokens": batch.tokens or tokens,
            "reserve_tokens": tokens,
            "is_urgent": batch.is_urgent,
            "names": batch.names,
            "epoch": batch.epoch,
        }
        opened, _reserved = await self._open(
            self._redis,
            [keys.batch(batch.id), keys.quota(batch.deployment), keys.DUE_HEAVY],
            [batch.reservation, tokens, limit, batch.step, now, *_flat(record)],
        )
        return bool(opened)

    async def split(self, parent: Batch, child: Batch, *, tokens: int) -> bool:
        """Create a child's record and move `tokens` of the reservation to it; False if it exists already."""
        now = self._clock.now_ms()
        record = {
            "lane": child.lane,
            "deployment": child.deployment,
            "state": child.state.value,
            "fence": 0,
            "runs": 0,
            "attempt": 1,
            "opened_at_ms": now,
            "state_at_ms": now,
            "tokens": tokens,
            "parent": parent.id,
            "last_error": child.last_error,
            "epoch": parent.epoch,
        }
        return bool(
            await self._split(
                self._redis,
                [keys.batch(child.id), keys.quota(parent.deployment), keys.DUE_HEAVY],
                [parent.reservation, child.reservation, tokens, child.step, now, *_flat(record)],
            ),
        )

    async def adopt(self, batch: Batch, *, tokens: int) -> bool:
        """Write the record of a remote batch or file that Redis forgot, due at once; False if there is one."""
        now = self._clock.now_ms()
        record = {
            "lane": batch.lane,
            "deployment": batch.deployment,
            "state": batch.state.value,
            "fence": 0,
            "runs": 0,
            "attempt": batch.attempt,
            "opened_at_ms": now,
            "state_at_ms": now,
            "tokens": tokens,
            "lines": batch.lines,
            "epoch": batch.epoch,
            "remote_id": batch.remote_id,
            "input_file_id": batch.input_file_id,
            "submitted_at_ms": batch.submitted_at_ms,
        }
        return bool(
            await self._adopt(
                self._redis,
                [keys.batch(batch.id), keys.quota(batch.deployment), keys.DUE_HEAVY],
                [batch.reservation, tokens, batch.step, now, *_flat(record)],
            ),
        )

    async def begin(self, batch: str) -> Batch | None:
        """Take the fence of a batch; None if it has no record."""
        flat = await self._begin(self._redis, [keys.batch(batch)], [self._clock.now_ms(), DEATH_MS])
        if not flat:
            return None
        return Batch.from_record(batch, dict(zip(flat[::2], flat[1::2], strict=True)))

    async def read(self, batch: str) -> Batch | None:
        """Look at a record without taking its fence; None if there is none, or one that only a newer release reads."""
        return Batch.read(batch, await self._redis.hgetall(keys.batch(batch)))

    async def holds(self, batch: Batch) -> bool:
        """Whether nobody began a newer step of this batch: asked right before what cannot be undone."""
        return int(await self._redis.hget(keys.batch(batch.id), "fence") or -1) == batch.fence

    async def commit(self, batch: Batch, move: Move) -> Batch:
        """Write where a batch goes next; returns it as it is then.

        Raises:
            FenceLost: If another worker began a newer step, or the record of the child is gone.
            ValueError: If the move is not legal (`states.LEGAL`): a programming error.
        """
        if move.state not in LEGAL[batch.state]:
            raise ValueError(f"illegal move {batch.state} -> {move.state}")
        now = self._clock.now_ms()
        fields: dict[str, str | int] = {"state": move.state.value, **move.fields}
        if move.state is not batch.state:
            fields["state_at_ms"] = now
            fields.setdefault("retries", 0)
        reservation: str | int = move.reservation
        if move.next_attempt:
            fields = {**Batch.fresh(), **fields, "attempt": batch.attempt + 1}
            if reservation == KEEP:
                reservation = dataclasses.replace(batch, attempt=batch.attempt + 1).reservation
        is_closed = move.state is BatchState.CLOSED
        where = "none" if is_closed else "heavy" if move.is_heavy else "light"
        committed = await self._commit(
            self._redis,
            [
                *(keys.batch(batch.id), keys.DUE_LIGHT, keys.DUE_HEAVY),
                *(keys.quota(batch.deployment), keys.history(batch.id)),
                keys.batch(move.child or batch.id),
            ],
            [
                batch.fence,
                batch.step,
                where,
                now + int(move.after_s * 1000),
                batch.reservation,
                reservation,
                int(self.closed_s * 1000) if is_closed else 0,
                event_of(batch, move, now_ms=now),
                EVENTS_MAX,
                *_flat(fields),
            ],
        )
        if not committed:
            raise FenceLost(batch.id)
        known = {f.name for f in dataclasses.fields(Batch)}
        return dataclasses.replace(
            batch,
            **{
                name: move.state if name == "state" else value
                for name, value in {"runs": 0, **fields}.items()
                if name in known
            },  # type: ignore[arg-type] # fields of the record
        )

    async def schedule(self, step: str, *, heavy: bool, at_ms: int) -> None:
        """Put a periodic step into a due set unless it is there."""
        due = keys.DUE_HEAVY if heavy else keys.DUE_LIGHT
        await self._schedule(self._redis, [due], [step, at_ms, "new"])

    async def reschedule(self, step: str, *, heavy: bool, at_ms: int) -> None:
        """Move a step's due time."""
        due = keys.DUE_HEAVY if heavy else keys.DUE_LIGHT
        await self._schedule(self._redis, [due], [step, at_ms, "move"])

    async def drop(self, batch: str) -> bool:
        """Take the step of a batch that has no record out of the due sets; False if there is a record after all."""
        names = [keys.batch(batch), keys.DUE_LIGHT, keys.DUE_HEAVY]
        return bool(await self._drop(self._redis, names, [f"batch:{batch}"]))

    async def unschedule(self, step: str) -> None:
        """Take a periodic step that is over out of both due sets."""
        await self._redis.zrem(keys.DUE_LIGHT, step)
        await self._redis.zrem(keys.DUE_HEAVY, step)

    async def due_at(self, step: str, *, heavy: bool) -> int | None:
        """When a step is due (Unix ms); None if it is not in this due set."""
        score = await self._redis.zscore(keys.DUE_HEAVY if heavy else keys.DUE_LIGHT, step)
        return None if score is None else int(score)

    async def overdue(self, *, heavy: bool, before_ms: int) -> AsyncIterator[list[tuple[str, int]]]:
        """Pages of (step, due) that should have run before an instant."""
        key, offset = keys.DUE_HEAVY if heavy else keys.DUE_LIGHT, 0
        while True:
            page = await self._redis.zrange(
                key, "-inf", before_ms, byscore=True, offset=offset, num=PAGE, withscores=True
            )
            if page:
                yield [(name.decode(), int(score)) for name, score in page]
            if len(page) < PAGE:
                return
            offset += PAGE

    async def steps(self) -> AsyncIterator[str]:
        """Every scheduled step."""
        for key in (keys.DUE_LIGHT, keys.DUE_HEAVY):
            async for name, _score in self._redis.zscan_iter(key, count=PAGE):
                yield name.decode()

    async def deployments(self, names: Iterable[str]) -> dict[str, DeploymentState]:
        """Reservations, pauses and what was learned of deployments, in one round trip."""
        wanted = list(names)
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in wanted:
                pipe.hgetall(keys.quota(name))
                pipe.hgetall(keys.deployment(name))
            answers = await pipe.execute()
        return {
            name: DeploymentState.of(answers[2 * index], answers[2 * index + 1])
            for index, name in enumerate(wanted)
        }

    async def pause(self, deployment: str, *, until_ms: int, strikes: int, reason: str) -> None:
        """Let no new batch onto a deployment before an instant."""
        fields = ["paused_until_ms", until_ms, "strikes", strikes, "reason", reason]
        await self._note(self._redis, [keys.deployment(deployment)], fields)

    async def absolve(self, deployment: str) -> None:
        """Forget pauses and strikes: the deployment took a batch."""
        await self._redis.hdel(keys.deployment(deployment), "paused_until_ms", "strikes", "reason")

    async def note_reported(self, deployment: str, *, tokens: int, limit: int) -> None:
        """Keep what the service said of its quota when it last accepted a batch."""
        await self._note(
            self._redis,
            [keys.deployment(deployment)],
            ["reported_tokens", tokens, "reported_limit_tokens", limit],
        )

    async def reported(self, deployment: str) -> tuple[int | None, int | None]:
        """Enqueued tokens and their limit as the service last said; None where it never did."""
        fields = await self._redis.hmget(
            keys.deployment(deployment), "reported_tokens", "reported_limit_tokens"
        )
        tokens, limit = (None if field is None else int(field) for field in fields)
        return tokens, limit

    async def note_files(self, region: str, files: int) -> None:
        """Keep how many input files a resource holds."""
        await self._note(self._redis, [keys.region(region)], ["files", files])

    async def files(self, regions: Iterable[str]) -> dict[str, int | None]:
        """Input files by region, as last counted; None where nobody has counted yet."""
        return {
            name: None if count is None else int(count)
            for name in regions
            for count in [await self._redis.hget(keys.region(name), "files")]
        }

    async def reservations(self, deployment: str) -> dict[str, int]:
        """`batch:attempt` -> reserved tokens."""
        held = await self._redis.hgetall(keys.quota(deployment))
        return {field.decode(): int(tokens) for field, tokens in held.items()}


def _flat(fields: Mapping[str, str | int]) -> list[str | int]:
    return [part for pair in fields.items() for part in pair]
