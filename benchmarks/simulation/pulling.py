"""Our policy, and fixed k: the product's own decision functions, fed with what the product will know."""

import math

from groupage.contract import Priority
from groupage_worker.quota import next_pause, usable_tokens
from groupage_worker.routing import LaneDemand, Supply, plan_pulls, share_by_priority
from groupage_worker.scheduling.learning import Ended, Learned, learn
from groupage_worker.scheduling.moves import Berth, Flight, plan_moves
from groupage_worker.states import RemoteStatus

from simulation.fleet import Batch, Fleet, Policy
from simulation.loop import Alarm

MARGIN = 0.97
LINES_MAX = 99_999


class Pulling(Policy):
    """Deployments with room pull the next slice."""

    def __init__(self, slices: int | None = None, *, steals: bool = True) -> None:
        self._slices, self._steals = slices, steals

    def start(self, fleet: Fleet) -> None:
        """Make the ledgers."""
        self._fleet = fleet
        n = len(fleet.regions)
        self._limits = [usable_tokens(r.spec.quota_tokens, MARGIN) for r in fleet.regions]
        self._learned = [Learned() for _ in range(n)]
        self._paused_until = [0.0] * n
        self._strikes = [0] * n
        self._held: list[list[Batch]] = [[] for _ in range(n)]
        self._alarm = Alarm(fleet.loop, self._wake)
        self._linger_s = 30.0

    def arrived(self) -> None:
        self._alarm.set(self._fleet.now)

    def polled(self, region: int) -> None:
        self._alarm.set(self._fleet.now)

    def completed(self, batch: Batch) -> None:
        remote = batch.remote
        assert remote is not None
        run = remote.finalizing_at - remote.in_progress_at
        self._learned[batch.region] = learn(
            self._learned[batch.region],
            Ended(
                tokens=batch.reserved,
                limit_tokens=self._limits[batch.region],
                overhead_s=remote.ended_at - remote.created_at - run,
                run_s=run,
            ),
        )
        self._released(batch.region)

    def cancelled(self, batch: Batch) -> None:
        self._released(batch.region)

    def failed(self, batch: Batch, code: str) -> None:
        if code == "token_limit_exceeded":
            self.refused(batch, code)
        else:
            self._fleet.give_back(batch)

    def refused(self, batch: Batch, code: str) -> None:
        region = batch.region
        pause = next_pause(strikes=self._strikes[region], first_s=60.0, reason=code)
        self._strikes[region] = pause.strikes
        self._paused_until[region] = self._fleet.now + pause.seconds
        self._held[region].append(batch)
        self._alarm.set(self._paused_until[region])

    def _released(self, region: int) -> None:
        if self._paused_until[region] > self._fleet.now:
            self._paused_until[region] = self._fleet.now

    def _retry(self) -> None:
        fleet = self._fleet
        for region, held in enumerate(self._held):
            if held and self._paused_until[region] <= fleet.now:
                batch = held.pop(0)
                fleet.create(batch)
                if batch.remote:
                    self._strikes[region] = 0

    def _wake(self) -> None:
        fleet = self._fleet
        fleet.lane.arrive(fleet.now)
        self._retry()
        demand = self._demand()
        if demand.requests:
            for pull in plan_pulls(
                demand,
                self._supplies(),
                slices=self._slices or 16,
                linger_s=self._linger_s,
                lines_max=LINES_MAX,
            ):
                self._open(int(pull.deployment), pull.tokens)
            if fleet.lane.waiting_tokens():
                self._alarm.set(fleet.now + max(1.0, self._linger_s - demand.oldest_wait_s))
        if self._steals:
            self._steal()

    def _demand(self) -> LaneDemand:
        lane, now = self._fleet.lane, self._fleet.now
        waiting = [q for q in lane.queues if q.waiting_requests]
        heads = [q.head_tokens() for q in waiting]
        return LaneDemand(
            requests=sum(q.waiting_requests for q in waiting),
            tokens=sum(q.waiting_tokens for q in waiting),
            oldest_wait_s=max((now - q.oldest() for q in waiting), default=0.0),
            smallest_tokens=min(heads, default=0),
            largest_tokens=max(heads, default=0),
        )

    def _supplies(self) -> list[Supply]:
        fleet = self._fleet
        return [
            Supply(
                name=str(i),
                limit_tokens=limit,
                reserved_tokens=fleet.reserved[i],
                is_paused=self._paused_until[i] > fleet.now or bool(self._held[i]),
                learned=self._learned[i],
                slices=self._slices or self._learned[i].slices,
                oldest_age_s=max((fleet.now - b.opened_at for b in fleet.live[i].values()), default=0.0),
            )
            for i, limit in enumerate(self._limits)
        ]

    def _open(self, region: int, tokens: int) -> None:
        lane = self._fleet.lane
        waiting = {p: sum(q.waiting_tokens for q in lane.queues if q.priority is p) for p in Priority}
        waiting = {p: t for p, t in waiting.items() if t}
        segments = []
        left, lines = tokens, LINES_MAX
        for priority, share in [*share_by_priority(tokens, waiting), *((p, tokens) for p in Priority)]:
            part, n, spent = lane.claim(priority, min(share, left), lines)
            segments += part
            left, lines = left - spent, lines - n
        if segments:
            spent = tokens - left
            self._fleet.submit(region, segments, reserved=spent)

    def _steal(self) -> None:
        fleet, now = self._fleet, self._fleet.now
        berths, batches = [], {}
        coming = fleet.lane.waiting_tokens()
        for i, live in enumerate(fleet.live):
            flights = []
            for batch in live.values():
                if batch.target < 0 and batch.remote and batch.remote.status is RemoteStatus.VALIDATING:
                    batches[str(id(batch))] = batch
                    flights.append(
                        Flight(batch=str(id(batch)), tokens=batch.reserved, age_s=now - batch.submitted_at, moves=batch.moves)
                    )
            flights.sort(key=lambda f: -f.age_s)
            room = 0 if self._paused_until[i] > now else max(0, self._limits[i] - fleet.reserved[i])
            berths.append(Berth(name=str(i), room_tokens=room, learned=self._learned[i], flights=flights))
        if coming >= sum(b.room_tokens for b in berths):
            return
        for move in plan_moves(berths, coming_tokens=coming):
            fleet.move(batches[move.batch], int(move.target))
