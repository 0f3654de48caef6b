"""What the emulator's journal says of a run: occupancy, refusals, bills, and whether a quota was ever exceeded."""

import dataclasses
from collections.abc import Iterable

from benchmarks.simulate_real.fleet import Course
from benchmarks.simulate_real.service import LARGEST_TOKENS, SIGMA_TOKENS
from benchmarks.simulation import bound, worlds
from benchmarks.simulation.policies import OURS, make
from benchmarks.simulation.runs import Figures, run
from benchmarks.simulation.spec import World

from groupage_emulator import journal


@dataclasses.dataclass(slots=True, kw_only=True)
class Books:
    """Sums over a journal.

    Attributes:
        over: Ledger entries with more of our tokens than the limit, or with more of everybody's while others act.
        entries: Ledger entries.
        held: Token-seconds that we held while a backlog existed; `free`: that others left to us.
        creates: Batches; `refused`: refused for quota, at once or after validation.
        cancels: Cancels that were accepted, moves among them.
        billed: Lines; `twice`: ids billed more than once.
    """

    over: int = 0
    entries: int = 0
    held: float = 0.0
    free: float = 0.0
    creates: int = 0
    refused: int = 0
    cancels: int = 0
    billed: int = 0
    twice: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


def read(records: Iterable[journal.AnyRecord], *, since_s: float, until_s: float, is_shared: bool) -> Books:
    """Sum up a journal.

    Args:
        records: In order.
        since_s: Instant at which the work began, service time; `until_s`: at which no backlog was left.
        until_s: See there.
        is_shared: Whether others use the quotas and the service is strict: then nobody together may exceed them.
    """
    books = Books()
    bills: dict[str, int] = {}
    last: dict[tuple[str, str], journal.Ledger] = {}
    for record in records:
        match record:
            case journal.Ledger():
                books.entries += 1
                own = record.enqueued - record.phantom
                books.over += own > record.limit or (is_shared and record.enqueued > record.limit)
                _hold(books, last.get((record.region, record.deployment)), record.at_s, since_s, until_s)
                last[record.region, record.deployment] = record
            case journal.Create():
                books.creates += 1
            case journal.Refused():
                books.refused += record.code == "token_limit_exceeded"
            case journal.Status():
                books.refused += record.code == "token_limit_exceeded"
            case journal.Cancel():
                books.cancels += 1
            case journal.Billed():
                for line in record.lines:
                    bills[line.custom_id] = bills.get(line.custom_id, 0) + 1
                    books.input_tokens += line.input_tokens
                    books.output_tokens += line.output_tokens
            case _:
                pass
    for entry in last.values():
        _hold(books, entry, until_s, since_s, until_s)
    books.billed = sum(bills.values())
    books.twice = sum(1 for n in bills.values() if n > 1)
    return books


def _hold(books: Books, entry: journal.Ledger | None, at_s: float, since_s: float, until_s: float) -> None:
    """Add what was held from an entry until the next one."""
    if entry is None:
        return
    seconds = max(0.0, min(at_s, until_s) - max(entry.at_s, since_s))
    books.held += seconds * (entry.enqueued - entry.phantom)
    books.free += seconds * (entry.limit - entry.phantom)


def twin(world: World, books: Books) -> World:
    """The same world for the simulator: without faults and with what was billed, all of it there from the start.

    Answers take part in the speed, not in the quota.
    """
    share = books.input_tokens / max(1, books.input_tokens + books.output_tokens)
    regions = [
        dataclasses.replace(
            spec,
            capacity_tokens_s=spec.capacity_tokens_s * share,
            batch_tokens_s=spec.batch_tokens_s * share,
            line_s=0.0,
            straggler_ratio=0.0,
        )
        for spec in world.regions
    ]
    requests = max(1, books.billed)
    work = worlds.backlog(
        requests, mean=books.input_tokens / requests, sigma=SIGMA_TOKENS, largest=LARGEST_TOKENS
    )
    return dataclasses.replace(world, regions=regions, workload=work)


def bound_s(world: World, books: Books, *, seed: int) -> float:
    """The fluid bound for what was billed."""
    return bound.makespan_s(twin(world, books), books.input_tokens, seed)


def modelled(world: World, books: Books, *, seed: int) -> Figures:
    """What the simulator makes of it: the same decisions in the same world, without steps, HTTP and faults."""
    model = twin(world, books)
    return run(model, make(OURS, model), seed)


HEAD = (
    "| world | seed | requests | all / bound | 99 % / bound | modelled all (99 %) / bound | hours | occupancy | batches "
    "| cancels | refusals / batch | billed twice | ledger entries | over quota | above our ledger |\n|"
    + "---|"
    * 15
)


def row(world: World, seed: int, course: Course, books: Books, model: Figures) -> str:
    """One line of the table, with what the simulator makes of the same (`modelled`)."""
    bound = bound_s(world, books, seed=seed)
    return (
        f"| {world.name} | {seed} | {course.requests:,} | {course.all_s / bound:.3f} | {course.most_s / bound:.3f} "
        f"| {model.all_s / model.bound_s:.3f} ({model.most_s / model.bound_s:.3f}) "
        f"| {course.all_s / 3_600:.2f} | {books.held / max(1.0, books.free):.3f} | {books.creates:,} | {books.cancels} "
        f"| {books.refused / max(1, books.creates):.3f} | {books.twice} | {books.entries:,} | {books.over} "
        f"| {course.unreserved_tokens:,} |"
    )
