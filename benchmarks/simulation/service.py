"""One region of the service: quota, phases of a batch, shared capacity, slots, trouble."""

import dataclasses
import heapq
import math
from random import Random

from benchmarks.simulation.loop import Loop
from benchmarks.simulation.spec import Outage, RegionSpec, Trace

from groupage_worker.states import RemoteStatus

CANCEL_S = (20.0, 600.0)
"""A cancel takes up to ten minutes (how-to page of 2024-08-12; azure-batch.md 4.4, 2026-11-20); uniform here."""

FAIL_S = (30.0, 90.0)
"""A region that fails openly takes a batch and fails it within so many seconds (our assumption)."""

TOKEN_LIMIT = "token_limit_exceeded"
INTERNAL = "internal_error"


@dataclasses.dataclass(slots=True, eq=False)
class Remote:
    """A batch at the service, as a list call shows it, and what the service knows beside that.

    Attributes:
        tokens: As the service counts them.
        error: Code, once it has failed.
        done_lines: Lines whose results are in the files, once it is terminal.
    """

    tokens: int
    lines: int
    created_at: float
    rng: Random
    status: RemoteStatus = RemoteStatus.VALIDATING
    in_progress_at: float = 0.0
    finalizing_at: float = 0.0
    ended_at: float = 0.0
    error: str = ""
    done_lines: int = 0
    ends_at_work: float = 0.0
    is_processing: bool = False
    has_slot: bool = False
    is_held: bool = True
    epoch: int = 0

    @property
    def is_terminal(self) -> bool:
        """Whether it changes no more."""
        return self.ended_at > 0.0


class Region:
    """Quota and capacity of one deployment.

    Attributes:
        changes: Batches whose status changed since the client last looked.
        held_area: Token-seconds held while `is_counting`.
    """

    def __init__(
        self, spec: RegionSpec, loop: Loop, *, seed: str, speed: Trace, others: Trace, outage: Outage | None
    ) -> None:
        self.spec, self._loop, self._seed, self._outage = spec, loop, seed, outage
        self._others = others[0][1]
        self._speed = speed[0][1]
        self.held = 0
        self.changes: list[Remote] = []
        self.is_counting, self.held_area, self._held_since = False, 0.0, 0.0
        self._ordinal = 0
        self._work, self._work_at, self._version = 0.0, 0.0, 0
        self._processing: list[tuple[float, int, Remote]] = []
        self._busy = 0
        self._queue: list[Remote] = []
        self._alive: dict[int, Remote] = {}
        for when, value in speed[1:]:
            loop.at(when, self._set_speed, value)
        for when, value in others[1:]:
            loop.at(when, self._set_others, value)
        if outage and outage.is_open:
            loop.at(outage.start_s, self._fail_all)

    # what clients may do

    def create(self, tokens: int, lines: int) -> Remote | str:
        """Take a batch, or say why not (the code of the refusal)."""
        if self.spec.is_fail_fast and not self._has_room(tokens):
            return TOKEN_LIMIT
        self._ordinal += 1
        remote = Remote(tokens, lines, self._loop.now, Random(f"{self._seed}/{self._ordinal}"))
        self._alive[id(remote)] = remote
        if self._is_failing():
            self._later(remote.rng.uniform(*FAIL_S), self._fail, remote, INTERNAL)
            remote.is_held = False
            return remote
        if self.spec.is_fail_fast:
            self._hold(tokens)
        else:
            remote.is_held = False
        spec = self.spec
        validate = _lognormal(remote.rng, spec.validate_median_s, spec.validate_sigma) + spec.line_s * lines
        self._later(validate, self._validated, remote)
        return remote

    def cancel(self, remote: Remote) -> None:
        """Stop a batch; it ends after a while, with what was finished."""
        if remote.is_terminal or remote.status is RemoteStatus.CANCELLING:
            return
        remote.done_lines = self.done_lines(remote)
        self._leave(remote)
        self._show(remote, RemoteStatus.CANCELLING)
        remote.epoch += 1
        when = remote.rng.uniform(*CANCEL_S)
        self._loop.at(self._loop.now + when, self._end, remote, RemoteStatus.CANCELLED, remote.epoch)

    def enqueued(self) -> int:
        """Tokens of all users, as the quota headers tell."""
        return self.held + int(self._others * self.spec.quota_tokens)

    def done_lines(self, remote: Remote) -> int:
        """Lines that are done, as `request_counts` tell."""
        if not remote.is_processing:
            return remote.done_lines
        self._advance()
        left = max(0.0, remote.ends_at_work - self._work)
        return int(remote.lines * (1 - left / max(1, remote.tokens)))

    # phases

    def _validated(self, remote: Remote) -> None:
        if not remote.is_held:
            if not self._has_room(remote.tokens):
                self._fail(remote, TOKEN_LIMIT)
                return
            remote.is_held = True
            self._hold(remote.tokens)
        spec = self.spec
        wait = _lognormal(remote.rng, spec.wait_median_s, spec.wait_sigma) if spec.wait_median_s else 0.0
        self._later(wait, self._queued, remote)

    def _queued(self, remote: Remote) -> None:
        if self._busy < self.spec.slots:
            self._start(remote)
        else:
            self._queue.append(remote)

    def _start(self, remote: Remote) -> None:
        self._advance()
        self._busy += 1
        remote.has_slot = True
        remote.in_progress_at = self._loop.now
        self._show(remote, RemoteStatus.IN_PROGRESS)
        self._plan()
        self._later(self.spec.setup_s, self._process, remote)

    def _process(self, remote: Remote) -> None:
        self._advance()
        remote.is_processing = True
        remote.ends_at_work = self._work + remote.tokens
        heapq.heappush(self._processing, (remote.ends_at_work, id(remote), remote))
        self._plan()

    def _processed(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        while self._processing and self._processing[0][0] <= self._work + 1e-6:
            remote = heapq.heappop(self._processing)[2]
            if remote.is_processing:
                remote.is_processing = False
                remote.done_lines = remote.lines - 1
                self._later(self._straggle_s(remote), self._run_ended, remote)
        self._plan()

    def _run_ended(self, remote: Remote) -> None:
        remote.finalizing_at = self._loop.now
        remote.done_lines = remote.lines
        self._leave(remote)
        self._show(remote, RemoteStatus.FINALIZING)
        spec = self.spec
        finalize = _lognormal(remote.rng, spec.finalize_median_s, spec.finalize_sigma)
        self._later(finalize, self._complete, remote)

    def _complete(self, remote: Remote) -> None:
        self._end(remote, RemoteStatus.COMPLETED, remote.epoch)

    def _end(self, remote: Remote, status: RemoteStatus, epoch: int) -> None:
        if epoch != remote.epoch:
            return
        remote.epoch += 1
        remote.ended_at = self._loop.now
        del self._alive[id(remote)]
        if remote.is_held:
            self._hold(-remote.tokens)
        self._show(remote, status)

    def _fail(self, remote: Remote, code: str) -> None:
        remote.error, remote.done_lines = code, 0
        self._leave(remote)
        self._end(remote, RemoteStatus.FAILED, remote.epoch)

    # capacity

    def _rate(self) -> float:
        """Tokens a second of each batch that runs."""
        if not self._busy or not self._speed:
            return 0.0
        share = min(self.spec.batch_tokens_s, self.spec.capacity_tokens_s / self._busy)
        return share * self._speed

    def _advance(self) -> None:
        self._work += self._rate() * (self._loop.now - self._work_at)
        self._work_at = self._loop.now

    def _plan(self) -> None:
        """Schedule the next end of processing."""
        self._version += 1
        while self._processing and not self._processing[0][2].is_processing:
            heapq.heappop(self._processing)
        rate = self._rate()
        if self._processing and rate:
            left = max(0.0, self._processing[0][0] - self._work)
            self._loop.at(self._loop.now + left / rate, self._processed, self._version)

    def _leave(self, remote: Remote) -> None:
        """Give up the slot, or the place in the queue for one."""
        if remote.has_slot:
            self._advance()
            remote.has_slot = remote.is_processing = False
            self._busy -= 1
            if self._queue and self._busy < self.spec.slots:
                self._start(self._queue.pop(0))
            self._plan()
        elif remote in self._queue:
            self._queue.remove(remote)

    def _straggle_s(self, remote: Remote) -> float:
        """How long a straggling line holds its batch beyond the others."""
        rng, spec = remote.rng, self.spec
        if rng.random() >= 1 - (1 - spec.straggler_ratio) ** remote.lines:
            return 0.0
        left = rng.random() * (self._loop.now - remote.in_progress_at)
        return max(0.0, _lognormal(rng, spec.straggler_median_s, spec.straggler_sigma) - left)

    # quota and trouble

    def _has_room(self, tokens: int) -> bool:
        return self.enqueued() + tokens <= self.spec.quota_tokens

    def _hold(self, tokens: int) -> None:
        self.count(is_counting=self.is_counting)
        self.held += tokens

    def count(self, *, is_counting: bool) -> None:
        """Add up token-seconds until now, and go on counting or not."""
        if self.is_counting:
            self.held_area += self.held * (self._loop.now - self._held_since)
        self._held_since, self.is_counting = self._loop.now, is_counting

    def _set_speed(self, value: float) -> None:
        self._advance()
        self._speed = value
        self._plan()

    def _set_others(self, value: float) -> None:
        self._others = value

    def _is_failing(self) -> bool:
        out = self._outage
        return out is not None and out.is_open and out.start_s <= self._loop.now < out.end_s

    def _fail_all(self) -> None:
        for remote in list(self._alive.values()):
            if remote.status is not RemoteStatus.CANCELLING:
                self._fail(remote, INTERNAL)

    def _show(self, remote: Remote, status: RemoteStatus) -> None:
        remote.status = status
        self.changes.append(remote)

    def _later(self, delay: float, call: object, remote: Remote, *args: object) -> None:
        """Call after a phase, which makes no progress while the region is silently out."""
        when = self._loop.now + delay
        out = self._outage
        if out and not out.is_open and self._loop.now < out.end_s and when > out.start_s:
            when += out.end_s - max(out.start_s, self._loop.now)
        self._loop.at(when, self._due, call, remote, remote.epoch, args)

    def _due(self, call: object, remote: Remote, epoch: int, args: tuple[object, ...]) -> None:
        if epoch == remote.epoch:
            call(remote, *args)  # type: ignore[operator] # one of this class's own phases


def _lognormal(rng: Random, median: float, sigma: float) -> float:
    return median * math.exp(rng.gauss(0.0, sigma))
