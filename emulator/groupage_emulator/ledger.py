"""The enqueued-token quota of one deployment (sections 6.3 and 6.4 of `reference/azure-batch.md`, 2026-11-20).

A batch holds tokens from its creation to its terminal state: first the estimate from characters, after validation the
true count. What all batches of the deployment hold, others' phantom tokens included, never exceeds the limit by way of
a create or a validation that this ledger admitted.
"""

from collections.abc import Callable

from groupage_emulator.config import DeploymentConfig


class Ledger:
    """Who holds how many tokens.

    Args:
        config: The deployment; its limit may be changed while this runs.
        phantom: Tokens held by others.
        on_change: Called after each change, for the journal.
    """

    def __init__(self, config: DeploymentConfig, phantom: int, on_change: Callable[["Ledger"], None]) -> None:
        self.config = config
        self.phantom = phantom
        self._on_change = on_change
        self._held: dict[str, int] = {}
        self._admitted_by: dict[str, int] = {}
        self._admitted = 0
        self._own = 0
        self._late: set[str] = set()

    @property
    def limit(self) -> int:
        """The quota, without the allowance of dynamic quota."""
        return self.config.enqueued_tokens_max

    @property
    def enqueued(self) -> int:
        """Tokens held at this instant, by all."""
        return self._own + self.phantom

    @property
    def late(self) -> int:
        """Tokens of batches that have ended: the service's own fault, whatever else is created meanwhile."""
        return sum(self._held.get(batch_id, 0) for batch_id in self._late)

    def message(self) -> str:
        """The service's words for an exceeded quota; the limit is printed in thousands (section 6.4)."""
        return (
            f"The number of enqueued tokens has surpassed the configured limit of {self.limit // 1000}K for the"
            f" deployment '{self.config.name}'. Please either increase the limit or try again once the current jobs"
            " have finished."
        )

    def has_room(self, tokens: int) -> bool:
        """Whether the fail-fast check at POST lets a batch of this estimate in."""
        return self.enqueued + tokens <= self.limit * self.config.dynamic_quota_ratio

    def hold(self, batch_id: str, tokens: int) -> None:
        """A created batch holds its estimate."""
        self._set(batch_id, tokens)

    def admit(self, batch_id: str, tokens: int, *, fail_fast: bool) -> bool:
        """Replaces the estimate by the true count if that fits.

        Without fail-fast the estimates of batches still in validation do not count: they were never checked, and two
        batches that came together must not both fail where one has room.

        Returns:
            Whether it fits; if not, the estimate stays held until `release`.
        """
        others = self._own - self._held.get(batch_id, 0) if fail_fast else self._admitted
        if others + self.phantom + tokens > self.limit * self.config.dynamic_quota_ratio:
            return False
        self._admitted += tokens
        self._admitted_by[batch_id] = tokens
        self._set(batch_id, tokens)
        return True

    def end(self, batch_id: str) -> None:
        """The batch has ended and holds on to its tokens."""
        self._late.add(batch_id)
        self._on_change(self)

    def release(self, batch_id: str) -> None:
        """The batch holds nothing any more."""
        self._late.discard(batch_id)
        self._admitted -= self._admitted_by.pop(batch_id, 0)
        self._set(batch_id, 0)

    def add_phantom(self, tokens: int) -> None:
        """Others hold so many tokens more, or fewer."""
        self.phantom += tokens
        self._on_change(self)

    def _set(self, batch_id: str, tokens: int) -> None:
        before = self._held.pop(batch_id, 0)
        if tokens:
            self._held[batch_id] = tokens
        if tokens != before:
            self._own += tokens - before
            self._on_change(self)
