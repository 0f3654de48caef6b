"""How long a batch holds its tokens, and what faults do to that (section 6.3 of `azure-batch.md`; F09, F10, F12)."""

import math

from groupage_emulator.batch import Batch
from groupage_emulator.clock import Clock
from groupage_emulator.config import RegionConfig
from groupage_emulator.ledger import Ledger


class Tenure:
    """Begins and ends the holding of tokens in one region.

    Args:
        config: The region's configuration, for its release lag.
        clock: The service's clock.
    """

    def __init__(self, config: RegionConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock

    def begin(self, batch: Batch, ledger: Ledger) -> None:
        """The batch holds its estimate; with a fault, others take tokens at the same instant."""
        ledger.hold(batch.id, batch.estimate)
        rule = batch.faults.get("phantom_tokens")
        if rule is None:
            return
        tokens = rule.tokens

        async def give_back() -> None:
            ledger.add_phantom(-tokens)

        ledger.add_phantom(tokens)
        if rule.seconds is not None:
            self._clock.call_in(rule.seconds, give_back)

    def end(self, batch: Batch, ledger: Ledger) -> None:
        """The batch is terminal: its tokens are free at once, or after a lag, or never."""
        rule = batch.faults.get("release_lag")
        lag_s = self._config.release_lag_s
        if rule is not None:
            lag_s = math.inf if rule.seconds is None else rule.seconds

        async def release() -> None:
            ledger.release(batch.id)

        if lag_s <= 0:
            ledger.release(batch.id)
            return
        ledger.end(batch.id)
        if lag_s != math.inf:
            self._clock.call_in(lag_s, release)
