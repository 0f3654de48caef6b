"""What the scheduler sees of a lane's deployments at one moment: settings, ledger and what was learned."""

import dataclasses
import math
from collections.abc import Iterable

from groupage.contract import Priority
from groupage_worker.jsonl import line_overhead
from groupage_worker.models import Batch, LaneLoad, opened_at_ms
from groupage_worker.routing import Supply
from groupage_worker.scheduling.circuit import Admission
from groupage_worker.scheduling.completion import hoped_s
from groupage_worker.scheduling.estimates import TokenFactor, pooled
from groupage_worker.scheduling.slices import linger_s
from groupage_worker.stages.context import Context
from groupage_worker.states import BatchState
from groupage_worker.store.deployments import DeploymentState

BYTES_PER_TOKEN = 4
"""The service's check at POST counts characters of the file; 4 a token is what was seen (azure-batch.md 6.3,
2026-11-20)."""

KEEPS_RESERVE_S = 6 * 3_600.0
"""So long after the last urgent request a share of each quota is kept for the next."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One deployment now.

    Attributes:
        usable_tokens: The part of its quota that we fill when nobody else does.
        limit_tokens: What may be reserved now.
        admission: What its circuit lets through.
        is_held: A batch of ours waits there for quota that others hold: nothing new goes there meanwhile.
        is_paused: By its failures or by a person.
        hidden_tokens: What batches there hold at the service beyond their reservations, by what was learned since.
    """

    name: str
    usable_tokens: int
    limit_tokens: int
    state: DeploymentState
    admission: Admission
    is_held: bool
    is_paused: bool
    hidden_tokens: int = 0

    @property
    def ledger_tokens(self) -> int:
        """What the reservations may sum up to now, so that there is room for what they do not show as well."""
        return max(0, self.limit_tokens - self.hidden_tokens)

    @property
    def is_closed(self) -> bool:
        """Whether it takes no batch at all now."""
        return self.is_paused or self.is_held or self.admission is Admission.NOTHING

    @property
    def room_tokens(self) -> int:
        """What it could take besides a probe."""
        if self.is_closed or self.admission is not Admission.ALL:
            return 0
        return max(0, self.ledger_tokens - self.state.reserved_tokens)


def line_tokens(context: Context, lane: str) -> int:
    """Tokens that a line adds to its request, at most, in the service's count of the file."""
    settings = context.settings.lanes[lane]
    most = max(
        line_overhead(url=context.azure[d.region].line_url(settings.endpoint), model=d.model)
        for d in (context.settings.deployments[name] for name in settings.deployments)
    )
    return math.ceil(most / BYTES_PER_TOKEN)


def door_tokens(batch: Batch, line_tokens: int) -> int:
    """What the door estimated for the requests of a batch, without what its lines add.

    That part the service counts at POST only. In validation it counts tokens of prompts: short requests, which are mostly
    line, would teach a factor that is wrong for long ones.
    """
    return max(0, batch.tokens - batch.lines * line_tokens)


def validated_tokens(batch: Batch, factor: TokenFactor, line_tokens: int) -> int:
    """What is reserved for a batch once it is validated; 0 where its requests are all line, of which nothing is learned."""
    return math.ceil(door_tokens(batch, line_tokens) * factor.reserve_ratio())


def usable(context: Context, name: str, state: DeploymentState) -> int:
    """The part of a quota that we fill; the service's own headers may know that it has become smaller."""
    settings = context.settings
    return state.known.usable_tokens(
        settings.deployments[name].enqueued_tokens, settings.gather.quota_margin_ratio
    )


async def views(context: Context, lane: str) -> list[View]:
    """All deployments of a lane."""
    names = context.settings.lanes[lane].deployments
    states = await context.batches.deployments(names)
    now = context.clock.now_ms()
    found = []
    for name, state in states.items():
        most = usable(context, name, state)
        found.append(
            View(
                name=name,
                usable_tokens=most,
                limit_tokens=state.known.shared.limit_tokens(most, now),
                state=state,
                admission=state.known.admission(now),
                is_held=bool(await held(context, state)),
                is_paused=state.is_paused(now),
                hidden_tokens=await hidden_tokens(context, name, state),
            )
        )
    return found


async def hidden_tokens(context: Context, name: str, state: DeploymentState) -> int:
    """What our batches at a deployment hold beyond their reservations, by what was learned since they were opened.

    A reservation never grows, because the ledger must not exceed its limit; what turns out to be missing in it is
    counted here instead, until those batches have ended.
    """
    since = max((factor.revalued_at_ms for factor in state.known.factors.values()), default=0)
    if not since:
        return 0
    batches = await context.batches.moves.sent(
        name, state.attempts, wanted=lambda attempt: opened_at_ms(attempt) < since
    )
    return worth_tokens(context, state, batches) - sum(state.attempts.get(b.reservation, 0) for b in batches)


def worth_tokens(context: Context, state: DeploymentState, batches: Iterable[Batch]) -> int:
    """What batches hold or will hold at the service, by what is known now; those without a reservation count nothing."""
    extra: dict[str, int] = {}
    worth = 0
    for batch in batches:
        reserved = state.attempts.get(batch.reservation, 0)
        if not reserved:
            continue
        if batch.lane not in extra:
            # of a lane that only other workers know all its tokens count: rather too much than too little
            is_known = batch.lane in context.settings.lanes
            extra[batch.lane] = line_tokens(context, batch.lane) if is_known else 0
        worth += reserved + state.known.factor(batch.lane).hidden_tokens(
            opened_at_ms=batch.opened_at_ms,
            estimated=door_tokens(batch, extra[batch.lane]),
            reserved=reserved,
        )
    return worth


async def held(context: Context, state: DeploymentState) -> list[Batch]:
    """Batches that were refused for quota and wait for room, the oldest first."""
    if state.known.shared.cap_tokens < 0:
        return []
    waiting = (BatchState.UPLOADED, BatchState.CREATING)
    batches = await context.batches.moves.holders(state.attempts)
    return [b for b in batches if b.state in waiting and b.quota_refusals]


def supplies(context: Context, lane: str, seen: list[View]) -> list[Supply]:
    """The same for `routing.plan_pulls`."""
    now = context.clock.now_ms()
    factors = [view.state.known.factor(lane) for view in seen]
    found = []
    for view, own in zip(seen, factors, strict=True):
        state, learned = view.state, view.state.known.learned
        ratio = pooled(own, factors).reserve_ratio(len(state.attempts))
        found.append(
            Supply(
                name=view.name,
                limit_tokens=view.limit_tokens,
                reserved_tokens=state.reserved_tokens + view.hidden_tokens,
                is_paused=view.is_closed,
                slices=learned.slices if learned.batches else 0,
                # the check at POST counts the file, whatever its text turns out to be
                token_ratio=max(1.0, ratio),
                residence_s=hoped_s(learned),
                silent_s=_silent_s(state, now),
                is_suspect=view.admission is Admission.PROBE,
            )
        )
    return found


def _silent_s(state: DeploymentState, now_ms: int) -> float:
    """How long no batch came further there, at most the age of the oldest: while others do, one that waits says little."""
    if not state.oldest_at_ms:
        return 0.0
    return (now_ms - max(state.oldest_at_ms, state.known.signs.advanced_at_ms)) / 1000


def keeps_reserve(context: Context, load: LaneLoad) -> bool:
    """Whether a share of each quota is kept for urgent requests, because there were some lately."""
    urgent, at_ms = load.waiting[Priority.URGENT], load.counters.get("urgent_at_ms", 0)
    return urgent.requests > 0 or context.clock.now_ms() - at_ms < KEEPS_RESERVE_S * 1000


def linger_of(context: Context, lane: str, seen: list[View]) -> float:
    """How long a part-full batch waits for more: as set, else by what was learned, seconds."""
    fixed = context.settings.lanes[lane].linger_s
    if fixed is not None:
        return fixed
    return linger_s([v.state.known.learned.residence_s for v in seen if v.state.known.learned.batches])
