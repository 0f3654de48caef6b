"""Our policy, and fixed k: the product's own decision functions, fed with what the product will know."""

import math
from random import Random

from benchmarks.simulation.fleet import Batch, Fleet, Policy
from benchmarks.simulation.loop import Alarm
from benchmarks.simulation.sight import (
    CREATE_S,
    Known,
    activity_of,
    berth_of,
    hidden_tokens,
    is_unproven,
    may_create,
    ms,
    room_of,
    shrink_validated,
    waits,
)
from benchmarks.simulation.workload import Segment

from groupage.contract import Priority
from groupage_worker import quota as quotas
from groupage_worker.quota import usable_tokens
from groupage_worker.routing import LaneDemand, Pull, Supply, plan_pulls, share_by_priority
from groupage_worker.scheduling import circuit as circuits
from groupage_worker.scheduling.circuit import Admission, is_stalled
from groupage_worker.scheduling.completion import hoped_s
from groupage_worker.scheduling.estimates import TokenFactor, borrowed, observe, pooled
from groupage_worker.scheduling.learning import SLICE_BATCHES, Ended, learn, resliced
from groupage_worker.scheduling.moves import Berth, plan_moves, plan_rescues
from groupage_worker.scheduling.slices import linger_s

MARGIN = 0.97
LINES_MAX = 99_999
FILE_TOKENS_MAX = int(190e6 / 4)
"""Tokens of one input file at 4 bytes each (`gather.file_bytes_max`)."""

OTHERS = (Priority.NORMAL, Priority.BULK)
QUOTA_PAUSE_S = 60.0
KEEPS_RESERVE_S = 6 * 3_600.0
"""For so long after the last urgent request a share of each quota is kept for the next."""


class Pulling(Policy):
    """Deployments with room pull the next slice.

    Args:
        slices: Fixed k; None: the learned slice, which is ours.
    """

    def __init__(self, slices: int | None = None) -> None:
        self._slices = slices

    def start(self, fleet: Fleet) -> None:
        """Make the ledgers."""
        self._fleet = fleet
        self._known = [Known(usable_tokens(r.spec.quota_tokens, MARGIN)) for r in fleet.regions]
        self._alarm = Alarm(fleet.loop, self._wake)
        self._rng = Random(f"{fleet.seed}/explore")
        self._urgent_at = -math.inf

    # what it is told

    def arrived(self) -> None:
        """New requests wait."""
        self._alarm.set(self._fleet.now)

    def uploaded(self, batch: Batch) -> None:
        """Create it, unless one that was refused waits for room, or the first ones ask one at a time."""
        known, fleet = self._known[batch.region], self._fleet
        if known.held:
            known.held.append(batch)
        elif may_create(fleet, batch.region, known, batch):
            self._create(batch)
        else:
            fleet.loop.at(max(fleet.now, known.asked_at) + CREATE_S, self.uploaded, batch)

    def _create(self, batch: Batch) -> None:
        self._known[batch.region].asked_at = self._fleet.now
        self._fleet.create(batch)

    def completed(self, batch: Batch) -> None:
        """Learn from it."""
        known, remote = self._known[batch.region], batch.remote
        if remote is None:
            raise ValueError("a batch without a remote batch cannot have ended")
        run_s = remote.finalizing_at - remote.in_progress_at
        known.learned = learn(
            known.learned,
            Ended(
                tokens=batch.reserved,
                limit_tokens=known.limit_tokens,
                overhead_s=remote.ended_at - remote.created_at - run_s,
                run_s=run_s,
            ),
        )
        now_ms = ms(self._fleet.now)
        news = [k for k in self._known if not k.factor.is_known]
        counts = {"estimated": batch.estimate, "counted": batch.true, "lines": batch.lines}
        known.factor = observe(known.factor, **counts, now_ms=now_ms)
        for other in news:
            other.factor = borrowed(other.factor, known.factor, now_ms=now_ms)
            other.shared = quotas.proven(other.shared, now_ms=now_ms)
        known.circuit, known.advanced_at = circuits.completed(), self._fleet.now

    def cancelled(self, batch: Batch) -> None:
        """Its room is free; the next look will use it."""

    def failed(self, batch: Batch, code: str) -> None:
        """Quota: wait for room with the same file. Anything else: the region is to blame."""
        if code == "token_limit_exceeded":
            self.refused(batch, code)
            return
        known, now = self._known[batch.region], self._fleet.now
        known.circuit = circuits.failed(
            known.circuit, now_ms=ms(now), created_at_ms=ms(batch.submitted_at), reason=code
        )
        if known.circuit.until_ms:
            self._alarm.set(known.circuit.until_ms / 1000 + 0.01)
        self._fleet.give_back(batch)
        self._alarm.set(now)

    def accepted(self, batch: Batch) -> None:
        """There is at least so much room."""
        known, fleet = self._known[batch.region], self._fleet
        known.shared = quotas.accepted(known.shared, held_tokens=fleet.reserved[batch.region])
        if fleet.world.has_quota_headers:
            region = fleet.regions[batch.region]
            known.shared = quotas.told(
                known.shared,
                held_tokens=sum(b.reserved for b in fleet.live[batch.region].values() if b.remote),
                enqueued_tokens=region.enqueued(),
                enqueued_tokens_max=region.spec.quota_tokens,
                now_ms=ms(fleet.now),
            )

    def refused(self, batch: Batch, code: str) -> None:
        """Keep the file, pause the deployment until one of our batches there ends, or for a while."""
        known, fleet = self._known[batch.region], self._fleet
        known.shared = quotas.refused(
            known.shared,
            held_tokens=fleet.reserved[batch.region] - batch.reserved,
            now_ms=ms(fleet.now),
            first_s=QUOTA_PAUSE_S,
            is_unproven=is_unproven(fleet, batch.region, known),
        )
        known.held.append(batch)
        self._alarm.set(known.shared.until_ms / 1000 + 0.01)

    def polled(self, region: int) -> None:
        """Look for signs of life, then decide."""
        known, fleet = self._known[region], self._fleet
        done = sum(
            fleet.regions[region].done_lines(b.remote) for b in fleet.live[region].values() if b.remote
        )
        if done > known.done_lines:
            known.is_counting, known.advanced_at = True, fleet.now
        if done > known.done_lines or fleet.changed[region]:
            known.changed_at, known.is_stalled = fleet.now, False
        known.done_lines = done
        shrink_validated(fleet, region, known.factor)
        silences = [fleet.now - k.changed_at for k in self._known]
        if is_stalled(activity_of(fleet, region, known), min(silences[:region] + silences[region + 1 :])):
            known.is_stalled = True
            known.circuit = circuits.stalled(known.circuit, now_ms=ms(fleet.now))
        self._alarm.set(fleet.now)

    # what it decides

    def _wake(self) -> None:
        fleet = self._fleet
        fleet.lane.arrive(fleet.now)
        self._retry()
        demand = self._demand()
        if demand.requests:
            linger = linger_s([k.learned.residence_s for k in self._known if k.learned.batches])
            for pull in plan_pulls(
                demand,
                self._supplies(),
                slices=self._slices or 16,
                linger_s=linger,
                lines_max=LINES_MAX,
                tokens_max=FILE_TOKENS_MAX,
                draw=self._rng.random(),
            ):
                self._open(pull)
            if fleet.lane.waiting_tokens():
                wait = 5.0 if demand.urgent_tokens else linger - demand.oldest_wait_s
                self._alarm.set(fleet.now + max(1.0, wait))
        self._move()

    def _retry(self) -> None:
        """Create what was refused once there is room for it."""
        now = ms(self._fleet.now)
        for i, known in enumerate(self._known):
            limit = known.shared.limit_tokens(known.limit_tokens, now)
            if not known.held or self._fleet.reserved[i] > limit:
                continue
            if may_create(self._fleet, i, known, known.held[0]):
                self._create(known.held.pop(0))

    def _demand(self) -> LaneDemand:
        now = self._fleet.now
        waiting = [q for q in self._fleet.lane.queues if q.waiting_requests]
        urgent = [q for q in waiting if q.priority is Priority.URGENT]
        if urgent:
            self._urgent_at = now
        heads = [q.head_tokens() for q in waiting]
        return LaneDemand(
            requests=sum(q.waiting_requests for q in waiting),
            tokens=sum(q.waiting_tokens for q in waiting),
            oldest_wait_s=max((now - q.oldest() for q in waiting), default=0.0),
            smallest_tokens=min(heads, default=0),
            largest_tokens=max(heads, default=0),
            urgent_tokens=sum(q.waiting_tokens for q in urgent),
            urgent_wait_s=max((now - q.oldest() for q in urgent), default=0.0),
            urgent_smallest_tokens=min((q.head_tokens() for q in urgent), default=0),
            keeps_reserve=now - self._urgent_at < KEEPS_RESERVE_S,
        )

    def _supplies(self) -> list[Supply]:
        factors = [k.factor for k in self._known]
        return [self._supply(i, known, pooled(known.factor, factors)) for i, known in enumerate(self._known)]

    def _supply(self, i: int, known: Known, factor: TokenFactor) -> Supply:
        fleet = self._fleet
        if self._slices is None and known.learned.slice_batches >= SLICE_BATCHES:
            waits_s, started = waits(fleet, i)
            known.learned = resliced(known.learned, waits_s=waits_s, started=started)
        admission = known.circuit.admission(ms(fleet.now))
        is_paused = bool(known.held) or admission is Admission.NOTHING
        oldest_age_s = max((fleet.now - b.opened_at for b in fleet.live[i].values()), default=0.0)
        return Supply(
            name=str(i),
            limit_tokens=known.shared.limit_tokens(known.limit_tokens, ms(fleet.now)),
            reserved_tokens=fleet.reserved[i] + hidden_tokens(fleet, i, known),
            is_paused=is_paused,
            slices=self._slices or known.learned.slices,
            token_ratio=max(1.0, factor.reserve_ratio(len(fleet.live[i]))),
            residence_s=hoped_s(known.learned),
            silent_s=min(oldest_age_s, fleet.now - known.advanced_at),
            is_suspect=admission is Admission.PROBE,
        )

    def _open(self, pull: Pull) -> None:
        region = int(pull.deployment)
        segments, spent = self._claim(pull)
        if not segments:
            return
        reserved = min(pull.reserve_tokens, math.ceil(pull.reserve_tokens * spent / pull.tokens))
        self._fleet.submit(region, segments, reserved=reserved, is_urgent=pull.is_urgent)
        if pull.reason == "probe":
            known = self._known[region]
            known.circuit = circuits.probed(known.circuit, now_ms=ms(self._fleet.now))

    def _claim(self, pull: Pull) -> tuple[list[Segment], int]:
        lane = self._fleet.lane
        if pull.is_urgent:
            segments, _, spent = lane.claim(Priority.URGENT, pull.tokens, LINES_MAX)
            return segments, spent
        waiting = {p: sum(q.waiting_tokens for q in lane.queues if q.priority is p) for p in OTHERS}
        segments = []
        left, lines = pull.tokens, LINES_MAX
        rounds = [*share_by_priority(pull.tokens, waiting), *((p, left) for p in (*OTHERS, Priority.URGENT))]
        for priority, share in rounds:
            if priority is Priority.URGENT and segments:
                # they have batches of their own, as in `Gatherer.step`
                continue
            part, n, spent = lane.claim(priority, min(share, left), lines)
            segments += part
            left, lines = left - spent, lines - n
        return segments, pull.tokens - left

    # what goes elsewhere

    def _move(self) -> None:
        fleet = self._fleet
        waiting = fleet.lane.waiting_tokens()
        rooms = [room_of(fleet, i, self._known[i]) for i in range(len(self._known))]
        has_urgent = any(b.is_urgent for live in fleet.live for b in live.values())
        if not has_urgent and waiting >= sum(rooms):
            return
        batches: dict[str, Batch] = {}
        berths = [self._berth(i, rooms[i], batches) for i in range(len(self._known))]
        for move in plan_rescues(berths) if has_urgent else []:
            fleet.move(batches[move.batch], int(move.target))
        if has_urgent:
            berths = [
                self._berth(i, room_of(fleet, i, self._known[i]), batches) for i in range(len(self._known))
            ]
        if waiting < sum(rooms):
            for move in plan_moves(berths, waiting_tokens=waiting):
                fleet.move(batches[move.batch], int(move.target))

    def _berth(self, i: int, room: int, batches: dict[str, Batch]) -> Berth:
        is_kept = self._fleet.now - self._urgent_at < KEEPS_RESERVE_S
        return berth_of(self._fleet, i, self._known[i], room, batches, is_kept=is_kept)
