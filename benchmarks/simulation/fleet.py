"""Our side of the wire: uploads, creates, polls, results. Policies say what and when; this does it and counts."""

import dataclasses
import math
from collections.abc import Sequence

from benchmarks.simulation.loop import Loop
from benchmarks.simulation.service import Region, Remote
from benchmarks.simulation.spec import World
from benchmarks.simulation.workload import Lane, Segment

from groupage_worker.states import RemoteStatus

POLL_S = 60.0
"""One list call per region and minute while something is in flight (performance-details.md 2.7, 2026-11-20)."""

TRANSFER_BYTES_S = 50e6
CALL_S = 2.0
BYTES_PER_TOKEN = 4.0
"""Upload and download at 50 MB/s, some 4 bytes a token (performance-details.md 2.2, 2026-11-20)."""

COUNTED_ABOVE = 1 / 16
"""A backlog exists while more waits than this share of all quotas."""


@dataclasses.dataclass(slots=True, eq=False)
class Batch:
    """One batch of ours, one attempt at a time.

    Attributes:
        number: In the order of their opening; names it, so that one seed is one run.
        estimate: Tokens as estimated at the door; `reserved` is what the ledger holds for it.
        true: As the service will count them.
        remote: None while it is not accepted.
        target: Where its requests go, once a cancel was sent to move them; -1: nowhere.
        moves: How often its requests were moved before.
    """

    number: int
    region: int
    segments: list[Segment]
    lines: int
    estimate: int
    true: int
    reserved: int
    opened_at: float
    remote: Remote | None = None
    submitted_at: float = 0.0
    is_urgent: bool = False
    is_probe: bool = False
    moves: int = 0
    target: int = -1
    refusals: int = 0
    is_validated: bool = False


@dataclasses.dataclass(slots=True)
class Counts:
    """What a run cost."""

    batches: int = 0
    refusals: int = 0
    late_refusals: int = 0
    failures: int = 0
    moves: int = 0
    needless_moves: int = 0
    calls: int = 0
    list_calls: int = 0


CANCELS = frozenset({RemoteStatus.CANCELLING, RemoteStatus.CANCELLED})


class Policy:
    """What a policy is told; each does what it wants with it."""

    def start(self, fleet: "Fleet") -> None:
        """Take over the fleet."""
        raise NotImplementedError

    def arrived(self) -> None:
        """New requests wait."""

    def uploaded(self, batch: Batch) -> None:
        """The input file of a batch is there; the policy creates it, now or later."""
        raise NotImplementedError

    def polled(self, region: int) -> None:
        """The statuses of a region were read, after everything that ended was told."""

    def completed(self, batch: Batch) -> None:
        """A batch ended well."""

    def cancelled(self, batch: Batch) -> None:
        """A cancelled batch ended; what it did not finish waits again."""

    def failed(self, batch: Batch, code: str) -> None:
        """A batch that was accepted failed as a whole; the policy gives it back or tries again."""
        raise NotImplementedError

    def accepted(self, batch: Batch) -> None:
        """A create was accepted."""

    def refused(self, batch: Batch, code: str) -> None:
        """A create was refused; the policy gives the batch back or tries again."""
        raise NotImplementedError


class Fleet:
    """One run: regions, a lane, and the batches in flight.

    Attributes:
        live: Per region, batches that hold a reservation.
        reserved: Per region, their sum.
        changed: Per region, whether the last poll showed another status of any batch.
    """

    def __init__(self, world: World, lane: Lane, policy: Policy, *, seed: int) -> None:
        self.world, self.lane, self.policy, self.seed = world, lane, policy, seed
        self.loop = Loop()
        self.regions = [
            Region(
                spec,
                self.loop,
                seed=f"{seed}/{world.name}/{index}",
                speed=world.speed_trace(index, seed),
                others=world.others_trace(index, seed),
                outage=world.outage if world.outage and world.outage.region == index else None,
            )
            for index, spec in enumerate(world.regions)
        ]
        self.live: list[dict[int, Batch]] = [{} for _ in self.regions]
        self.reserved = [0] * len(self.regions)
        self.changed = [False] * len(self.regions)
        self.counts = Counts()
        self.unfinished = sum(len(queue) for queue in lane.queues)
        self.backlog_ended_at = 0.0
        self._by_remote: dict[int, Batch] = {}
        self._is_polling = [False] * len(self.regions)
        self._least_backlog = COUNTED_ABOVE * sum(spec.quota_tokens for spec in world.regions)

    @property
    def now(self) -> float:
        """Virtual time, seconds."""
        return self.loop.now

    def run(self) -> None:
        """Run until every request is answered, or the horizon."""
        for region in self.regions:
            region.count(is_counting=True)
        for when in sorted({at for queue in self.lane.queues for at in _instants(queue.arrival)}):
            self.loop.at(when, self._arrive)
        self.policy.start(self)
        self.loop.run(until=self.world.horizon_s, is_done=lambda: self.unfinished == 0)

    def _arrive(self) -> None:
        if self.lane.arrive(self.now):
            self.policy.arrived()

    # what policies may do

    def submit(self, region: int, segments: Sequence[Segment], *, reserved: int, **marks: int) -> Batch:
        """Seal a batch, upload it and create it."""
        lines = sum(end - start for _, start, end in segments)
        batch = Batch(
            number=self.counts.batches,
            region=region,
            segments=list(segments),
            lines=lines,
            estimate=sum(q.estimate[end] - q.estimate[start] for q, start, end in segments),
            true=sum(q.true[end] - q.true[start] for q, start, end in segments),
            reserved=reserved,
            opened_at=self.now,
            **marks,  # type: ignore[arg-type] # fields by name
        )
        for queue, start, end in [] if batch.moves else batch.segments:
            queue.claimed(self.now, queue.estimate[end] - queue.estimate[start])
        self.live[region][id(batch)] = batch
        self.reserved[region] += batch.reserved
        self.counts.batches += 1
        self.counts.calls += 1
        self.loop.at(self.now + self._transfer_s(batch), self.policy.uploaded, batch)
        return batch

    def create(self, batch: Batch) -> None:
        """Create its remote batch, once more after a refusal."""
        self.counts.calls += 1
        remote = self.regions[batch.region].create(batch.true, batch.lines)
        if isinstance(remote, str):
            batch.refusals += 1
            self.counts.refusals += 1
            self.policy.refused(batch, remote)
            return
        batch.remote, batch.submitted_at = remote, self.now
        self.policy.accepted(batch)
        self._check_backlog()
        self._by_remote[id(remote)] = batch
        if not self._is_polling[batch.region]:
            self._is_polling[batch.region] = True
            self.loop.at(self.now + POLL_S, self._poll, batch.region)

    def move(self, batch: Batch, target: int) -> None:
        """Cancel its remote batch; what it did not finish goes to another region, whose room is held from now on."""
        if batch.remote is None:
            raise ValueError("a batch that was not accepted cannot be moved")
        batch.target = target
        self.reserved[target] += batch.reserved
        self.counts.calls += 1
        self.counts.moves += 1
        self.regions[batch.region].cancel(batch.remote)

    def shrink(self, batch: Batch, tokens: int) -> None:
        """Free what a batch holds of the ledger beyond so many tokens."""
        self.reserved[batch.region] -= max(0, batch.reserved - tokens)
        batch.reserved = min(batch.reserved, tokens)

    def give_back(self, batch: Batch) -> None:
        """Drop a batch; all of its requests wait again."""
        self._release(batch)
        for queue, start, end in reversed(batch.segments):
            queue.give_back(start, end)

    # what comes back

    def _poll(self, index: int) -> None:
        region = self.regions[index]
        changed, region.changes = region.changes, []
        # what follows from our own cancels is no sign of life
        self.changed[index] = any(remote.status not in CANCELS for remote in changed)
        self.counts.list_calls += 1 + len(self.live[index]) // 100
        for remote in dict.fromkeys(changed):
            if remote.is_terminal and id(remote) in self._by_remote:
                self._ended(self._by_remote.pop(id(remote)), remote)
        self.policy.polled(index)
        if self.live[index]:
            self.loop.at(self.now + POLL_S, self._poll, index)
        else:
            self._is_polling[index] = False

    def _ended(self, batch: Batch, remote: Remote) -> None:
        if remote.status is RemoteStatus.FAILED:
            if remote.error == "token_limit_exceeded":
                self.counts.late_refusals += 1
                batch.refusals += 1
            else:
                self.counts.failures += 1
            batch.remote = None
            self.policy.failed(batch, remote.error)
            return
        self._release(batch)
        self.counts.calls += 2
        self._deliver(batch, remote.done_lines)
        if batch.target >= 0:
            self.reserved[batch.target] -= batch.reserved
        if remote.status is RemoteStatus.CANCELLED:
            self.policy.cancelled(batch)
        else:
            self.policy.completed(batch)

    def _deliver(self, batch: Batch, lines: int) -> None:
        """The first so many lines have their replies, the others wait again."""
        at = self.now + self._transfer_s(batch)
        back: list[Segment] = []
        for queue, start, end in batch.segments:
            stop = min(end, start + lines)
            for i in range(start, stop):
                queue.finished[i] = at
            lines -= stop - start
            self.unfinished -= stop - start
            if stop < end:
                back.append((queue, stop, end))
        if back and batch.target >= 0:
            share = sum(end - start for _, start, end in back) / batch.lines
            self.counts.needless_moves += share < 0.5
            self.submit(batch.target, back, reserved=math.ceil(batch.reserved * share), moves=batch.moves + 1)
            return
        for queue, start, end in reversed(back):
            queue.give_back(start, end)

    def _release(self, batch: Batch) -> None:
        del self.live[batch.region][id(batch)]
        self.reserved[batch.region] -= batch.reserved

    def _transfer_s(self, batch: Batch) -> float:
        return CALL_S + batch.true * BYTES_PER_TOKEN / TRANSFER_BYTES_S

    def _check_backlog(self) -> None:
        if not self.backlog_ended_at and self.unsubmitted_tokens() < self._least_backlog:
            self.backlog_ended_at = self.now
            for region in self.regions:
                region.count(is_counting=False)

    def unsubmitted_tokens(self) -> int:
        """Estimated tokens that no remote batch holds."""
        held_back = sum(b.estimate for live in self.live for b in live.values() if b.remote is None)
        return self.lane.waiting_tokens() + held_back


def _instants(arrival: Sequence[float]) -> set[float]:
    return set(arrival)
