"""`RequestStore` where producers encrypt: bodies are opened for the input file only, replies are sealed on their way in."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import structlog

from groupage.clock import Clock
from groupage.codec import body_of
from groupage.encryption import EncryptionError, KeyMissing, KeyRing, KeyRings, is_sealed
from groupage.scripts import Settlement
from groupage_worker.models import Debt, Regained, Settled
from groupage_worker.store.client import RedisClient
from groupage_worker.store.packed import plain
from groupage_worker.store.requests import RequestStore

log = structlog.get_logger("sealed")


class SealedRequestStore(RequestStore):
    """Requests whose bodies and replies are encrypted at rest.

    Args:
        redis: Client of the data server.
        clock: As of `RequestStore`.
        rings: Keys by producer.
    """

    def __init__(self, redis: RedisClient, *, clock: Clock, rings: KeyRings) -> None:
        super().__init__(redis, clock=clock)
        self._rings = rings

    async def payloads(self, lane: str, debts: Sequence[Debt]) -> list[bytes | None]:
        """Request values with their bodies opened; None also for a body that does not open.

        Such a line is left out of its file, so that it holds nobody else up. It comes again with the next batch, which
        is time for a key to be mounted, and fails after the lane's `max_attempts`.
        """
        values = await super().payloads(lane, debts)
        refused: Counter[str] = Counter()
        opened: list[bytes | None] = []
        for debt, value in zip(debts, values, strict=True):
            try:
                opened.append(value and self._opened(debt.custom_id, value))
            except EncryptionError as error:
                refused[type(error).__name__] += 1
                opened.append(None)
        for reason, n in refused.items():
            log.error("sealed.left_out", lane=lane, code=reason, requests=n)
        return opened

    def _opened(self, custom_id: bytes, value: bytes) -> bytes | None:
        body = body_of(value)
        if not is_sealed(body):
            return value
        ring, name = self._ring(custom_id)
        if ring is None:
            raise KeyMissing("the producer has no folder of keys here")
        return plain(value[: -len(body)] + ring.open("request", name, body))

    def _ring(self, custom_id: bytes) -> tuple[KeyRing | None, str]:
        producer, _, name = custom_id.decode("ascii").partition(":")
        return self._rings.of(producer), name

    async def settle(
        self, lane: str, batch: str | None, settlements: Sequence[Settlement], *, reply_ttl_s: float
    ) -> Settled:
        """As of `RequestStore`, with each reply sealed for its producer."""
        sealed = [self._sealed(one) for one in settlements]
        return await super().settle(lane, batch, sealed, reply_ttl_s=reply_ttl_s)

    def _sealed(self, one: Settlement) -> Settlement:
        ring = self._rings.of(one.producer)
        return one if ring is None else one._replace(reply=ring.seal("reply", one.id, one.reply))

    async def restore(
        self, lane: str, batch: str, lines: Sequence[Regained], *, deadline_s: float, line_tokens: int
    ) -> tuple[int, int, int, int]:
        """As of `RequestStore`, with each body sealed for its producer again."""
        sealed = [self._resealed(one) for one in lines]
        return await super().restore(lane, batch, sealed, deadline_s=deadline_s, line_tokens=line_tokens)

    def _resealed(self, line: Regained) -> Regained:
        ring, name = self._ring(line.custom_id)
        if ring is None:
            return line
        return dataclasses.replace(
            line, digest=ring.digest(line.body), body=ring.seal("request", name, line.body)
        )


def request_store(redis: RedisClient, *, clock: Clock, keys_dir: Path | None) -> RequestStore:
    """The store that fits the settings: with encryption where there is a folder of keys."""
    if keys_dir is None:
        return RequestStore(redis, clock=clock)
    return SealedRequestStore(redis, clock=clock, rings=KeyRings(keys_dir))
