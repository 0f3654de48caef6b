"""What people do today: files of a fixed number of requests, dealt out without regard to quota."""

from random import Random

from benchmarks.simulation.fleet import Batch, Fleet, Policy

FOREVER = 10**15


class Files(Policy):
    """Cuts what waits into files of a fixed number of requests, first in first out."""

    def __init__(self, requests: int) -> None:
        self._requests = requests

    def start(self, fleet: Fleet) -> None:
        """Look at what is there."""
        self._fleet = fleet
        self.look()

    def arrived(self) -> None:
        self.look()

    def uploaded(self, batch: Batch) -> None:
        self._fleet.create(batch)

    def cancelled(self, batch: Batch) -> None:
        raise ValueError("these policies cancel nothing")

    def _file(self, region: int) -> Batch | None:
        """The next file, if anything waits; urgent or not makes no difference to these policies."""
        lane = self._fleet.lane
        lane.arrive(self._fleet.now)
        first = min((q for q in lane.queues if q.pending), key=lambda q: q.oldest(), default=None)
        if first is None:
            return None
        segments, _, tokens, _ = first.take(FOREVER, self._requests, allowance=FOREVER)
        return self._fleet.submit(region, segments, reserved=tokens)

    def look(self) -> None:
        """Something may have changed."""
        raise NotImplementedError


class WaitForEach(Files):
    """One file per region at a time; the next when it is done."""

    def look(self) -> None:
        for region, live in enumerate(self._fleet.live):
            if not live:
                self._file(region)

    def completed(self, batch: Batch) -> None:
        self.look()

    def failed(self, batch: Batch, code: str) -> None:
        self._fleet.loop.at(self._fleet.now + 60.0, self._fleet.create, batch)

    def refused(self, batch: Batch, code: str) -> None:
        self._fleet.loop.at(self._fleet.now + 60.0, self._fleet.create, batch)


class Sample(Files):
    """The service's own sample: submit file after file, wait doubling from 5 s whenever the quota is full.

    The how-to page gives up after ten tries; here it goes on, or it would lose the work (performance-details.md
    2.1, 2026-11-20).
    """

    FIRST_S = 5.0

    def look(self) -> None:
        for region, live in enumerate(self._fleet.live):
            if all(batch.remote for batch in live.values()):
                batch = self._file(region)
                if batch:
                    self._fleet.loop.at(self._fleet.now + 10.0, self.look)

    def completed(self, batch: Batch) -> None:
        """The sample does not listen to what ends; only its own waiting tells it."""

    def failed(self, batch: Batch, code: str) -> None:
        self.refused(batch, code)

    def refused(self, batch: Batch, code: str) -> None:
        wait = self.FIRST_S * 2.0 ** (batch.refusals - 1)
        self._fleet.loop.at(self._fleet.now + wait, self._again, batch)

    def _again(self, batch: Batch) -> None:
        self._fleet.create(batch)
        if batch.remote:
            self.look()


class RoundRobin(Files):
    """All files are dealt out in turn at once; each waits a minute after a refusal."""

    RETRY_S = 60.0

    def start(self, fleet: Fleet) -> None:
        self._next = 0
        super().start(fleet)

    def look(self) -> None:
        while self._file(self._next % len(self._fleet.regions)):
            self._next += 1

    def completed(self, batch: Batch) -> None:
        pass

    def failed(self, batch: Batch, code: str) -> None:
        self.refused(batch, code)

    def refused(self, batch: Batch, code: str) -> None:
        self._fleet.loop.at(self._fleet.now + self.RETRY_S, self._fleet.create, batch)


class WeightedShuffle(Files):
    """Each file goes to a region drawn by its quota, among those that did not refuse within the last minute."""

    COOLDOWN_S = 60.0

    def start(self, fleet: Fleet) -> None:
        self._rng = Random(f"{fleet.seed}/shuffle")
        self._until = [0.0] * len(fleet.regions)
        super().start(fleet)

    def look(self) -> None:
        now = self._fleet.now
        open_regions = [i for i, until in enumerate(self._until) if until <= now]
        if not open_regions:
            return
        weights = [self._fleet.regions[i].spec.quota_tokens for i in open_regions]
        batch = self._file(self._rng.choices(open_regions, weights)[0])
        if batch:
            self._fleet.loop.at(now + 5.0, self.look)

    def completed(self, batch: Batch) -> None:
        pass

    def failed(self, batch: Batch, code: str) -> None:
        self.refused(batch, code)

    def refused(self, batch: Batch, code: str) -> None:
        region = batch.region
        self._until[region] = self._fleet.now + self.COOLDOWN_S
        self._fleet.give_back(batch)
        self._fleet.loop.at(self._until[region], self.look)
        self.look()
