"""The set-up of sweep and simulation: settings of one fleet, its requests, and the producer that makes them.

The producer works on virtual time, so it calls the scripts itself, as `tests.support.requests` does, and keeps a diary.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from groupage import codec, keys
from groupage.contract import Priority, ReplyError, Status, WireReply
from groupage.scripts import Entry, Scripts, Settlement
from groupage_emulator import Rule, digest, digest_of_reply
from tests.chaos.history import (
    Acked,
    AnyNote,
    Asked,
    Cancelling,
    Diary,
    Refused,
    Replied,
    Rules,
    hash_of,
    stored,
)
from tests.support.clock import ManualClock

CLUSTER = "test"
CANARY = "canary-7f3a9c"
CLIENT = "client0000000000"
REPLY_TTL_MS = 30 * 86_400_000
_CANCELLED = msgspec.json.encode(
    WireReply(error=ReplyError(code="cancelled_by_producer", message="taken back"))
)
_BROKEN = b'{"messages":[}'


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One request that a producer will make.

    Attributes:
        text: Part of its prompt; `[[emulate:...]]` directives included.
        deadline_s: From its submit.
        is_broken: Whether its line is no JSON, so that the service refuses the whole file.
        cancel: Whether its producer takes it back at once.
        expected: As in `history.Asked`.
    """

    producer: str
    id: str
    lane: str = "chat"
    text: str = "hello"
    deadline_s: float = 86_400.0
    priority: Priority = Priority.NORMAL
    is_broken: bool = False
    cancel: bool = False
    expected: tuple[str, ...] = ("succeeded",)

    @property
    def body(self) -> bytes:
        """The canonical body."""
        if self.is_broken:
            return _BROKEN
        content = f"{CANARY} {self.producer} {self.id} {self.text}"
        return b'{"messages":[{"role":"user","content":%b}]}' % msgspec.json.encode(content)

    @property
    def digest(self) -> str:
        """What the emulator puts into its answer."""
        return "" if self.is_broken else digest(msgspec.json.decode(self.body))

    @property
    def tokens(self) -> int:
        """What a careful door would say: bytes / 4, and 10 % for the noise of the true count."""
        return math.ceil(len(self.body) / 4 * 1.1)


class ChaosProducer:
    """Producers of a run: ask, be told, take back, read replies; everything into the diary, twice."""

    def __init__(self, redis: "Redis[bytes]", clock: ManualClock, diary: Diary, notes: list[AnyNote]) -> None:
        self._redis, self._clock, self._diary = redis, clock, diary
        self._scripts = Scripts(redis)
        self._asked = {note.name: note for note in notes if isinstance(note, Asked)}
        self._done = {note.name for note in notes if isinstance(note, Acked | Refused)}
        self._taken_back = {note.name for note in notes if isinstance(note, Cancelling)}
        self.replied = {note.name for note in notes if isinstance(note, Replied)}

    def forget_acks(self) -> None:
        """Take no acknowledgement for granted any more: Redis may have forgotten them."""
        self._done.clear()

    async def submit(self, plan: Plan) -> str:
        """Submit, or submit again what was not acknowledged; returns the script's code, `a` for accepted."""
        name = f"{plan.producer}:{plan.id}"
        if name in self._done:
            return "k"
        ids = {"producer": plan.producer, "lane": plan.lane, "id": plan.id}
        asked = self._asked.get(name)
        if asked is None:
            deadline = self._clock.now_ms() + int(plan.deadline_s * 1000)
            asked = Asked(**ids, digest=plan.digest, deadline_at_ms=deadline, expected=plan.expected)
            self._diary.write(asked)
            self._asked[name] = asked
        body = plan.body
        value = codec.pack_request(
            body,
            digest=codec.body_hash(body),
            client=CLIENT,
            deadline_at_ms=asked.deadline_at_ms,
            accepted_at_ms=self._clock.now_ms(),
            tokens=plan.tokens,
            priority=plan.priority,
        )
        entry = Entry(plan.id, codec.body_hash(body), asked.deadline_at_ms, plan.tokens, len(body), value)
        answer = await self._scripts.submit(
            plan.lane, plan.producer, plan.priority, [entry], now_ms=self._clock.now_ms()
        )
        is_refused = answer.codes in {"o", "c"}
        self._diary.write(Refused(**ids, code=answer.limit_name) if is_refused else Acked(**ids))
        self._done.add(name)
        return answer.codes

    async def cancel(self, plan: Plan) -> None:
        """Take a request back."""
        if f"{plan.producer}:{plan.id}" not in self._taken_back:
            self._diary.write(Cancelling(producer=plan.producer, lane=plan.lane, id=plan.id))
        await self._scripts.settle(
            plan.lane,
            [Settlement(plan.producer, plan.id, Status.CANCELLED, _CANCELLED)],
            now_ms=self._clock.now_ms(),
            reply_ttl_ms=REPLY_TTL_MS,
        )

    async def read_reply(self, plan: Plan) -> bool:
        """Note the reply of a request if it is there."""
        value = await self._redis.get(keys.reply(plan.lane, plan.producer, plan.id))
        if value is None:
            return False
        name = f"{plan.producer}:{plan.id}"
        found = stored(name, plan.lane, value)
        self._diary.write(
            Replied(
                producer=plan.producer,
                lane=plan.lane,
                id=plan.id,
                status=found.status,
                digest=digest_of_reply(found.body),
                settled_at_ms=found.settled_at_ms,
                value_hash=hash_of(value),
            )
        )
        self.replied.add(name)
        return True


def rules_of(settings: Any, **rules: Any) -> Rules:
    """What a fleet of these settings promises."""
    return Rules(
        cluster=settings.cluster,
        lanes={
            name: frozenset(
                (settings.deployments[d].region, settings.deployments[d].model) for d in lane.deployments
            )
            for name, lane in settings.lanes.items()
        },
        quotas={
            name: int(one.enqueued_tokens * settings.gather.quota_margin_ratio)
            for name, one in settings.deployments.items()
        },
        canary=CANARY,
        **rules,
    )


def seed_that_takes(kind: str, fraction: float, names: Mapping[str, bool]) -> int:
    """The seed with which a line fault takes exactly those custom_ids that are marked."""
    from groupage_emulator.outputs import chosen  # noqa: PLC0415 - only sweeps need it

    for seed in range(100_000):
        rule = Rule(kind=kind, fraction=fraction, seed=seed)
        if all(chosen(rule, name) is taken for name, taken in names.items()):
            return seed
    raise ValueError(f"no seed of {kind} takes exactly {[n for n, taken in names.items() if taken]}")
