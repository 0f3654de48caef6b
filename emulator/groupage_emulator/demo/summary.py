"""What a demo comes to: one value, printed as text and written as JSON."""

import statistics
import textwrap
from collections import Counter
from collections.abc import Sequence

import msgspec

from groupage_emulator.demo.books import Books, Histories
from groupage_emulator.demo.checker import Prices, Violation, digest_of
from groupage_emulator.demo.world import NAMES


class DeploymentSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment.

    Attributes:
        batches: Remote batches by terminal status.
        requests: Billed lines.
        input_tokens: Billed; `output_tokens` likewise.
        quota: Its enqueued-token limit.
        peak_ratio: Most of the quota that was in use at once.
        batch_usd: What was billed; `online_usd` what the online endpoint would have cost.
    """

    region: str
    deployment: str
    batches: dict[str, int]
    requests: int
    input_tokens: int
    output_tokens: int
    quota: int
    peak_ratio: float
    batch_usd: float
    online_usd: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole demo.

    Attributes:
        requests: That producers asked.
        producers: Requests by producer.
        statuses: First replies by status.
        retried: Requests that succeeded after failed attempts.
        refused: Creates that were refused, by code.
        faults: What went wrong on purpose, by kind.
        wait_s: Seconds from acceptance to reply: median and 95th percentile.
        killed: Workers that were killed while it ran.
        wall_s: Seconds from the first child's start to the last reply; `total_s` with set-up, clean-up and check.
        violations: Broken promises; empty if all is well.
    """

    requests: int
    producers: dict[str, int]
    statuses: dict[str, int]
    retried: int
    deployments: list[DeploymentSummary]
    refused: dict[str, int]
    faults: dict[str, int]
    wait_s: tuple[float, float]
    killed: int
    wall_s: float
    total_s: float
    violations: list[str]


def summarise(
    histories: Histories,
    books: Books,
    violations: Sequence[Violation],
    *,
    prices: Prices,
    online_price_ratio: float,
    killed: int,
    wall_s: float,
    total_s: float,
) -> Summary:
    """Put everything together; the arguments are those of `Summary`."""
    answers = [history.answers[0] for history in histories.values() if history.answers]
    waits = sorted(answer.wait_s for answer in answers) or [0.0]
    deployments = []
    for (region, name), account in sorted(books.accounts.items()):
        if not name:
            continue
        usd = (account.input_tokens * prices.input_usd + account.output_tokens * prices.output_usd) / 1e6
        deployments.append(
            DeploymentSummary(
                region=region,
                deployment=name,
                batches=dict(account.batches),
                requests=account.billed,
                input_tokens=account.input_tokens,
                output_tokens=account.output_tokens,
                quota=account.limit,
                peak_ratio=account.peak / account.limit if account.limit else 0.0,
                batch_usd=usd,
                online_usd=usd * online_price_ratio,
            )
        )
    refused: Counter[str] = Counter()
    for account in books.accounts.values():
        refused += account.refused
    return Summary(
        requests=len(histories),
        producers=dict(Counter(custom_id.partition(":")[0] for custom_id in histories)),
        statuses=dict(Counter(answer.status for answer in answers)),
        retried=sum(answer.attempts > 0 and answer.status == "succeeded" for answer in answers),
        deployments=deployments,
        refused=dict(refused),
        faults=dict(books.faults),
        wait_s=(statistics.median(waits), waits[int(len(waits) * 0.95)]),
        killed=killed,
        wall_s=wall_s,
        total_s=total_s,
        violations=digest_of(violations),
    )


def text_of(summary: Summary, rudeness: str) -> str:
    """The summary for people.

    Args:
        summary: It.
        rudeness: What was made to go wrong, in words; empty for nothing.
    """
    s = summary
    batch_usd = sum(one.batch_usd for one in s.deployments)
    online_usd = sum(one.online_usd for one in s.deployments)
    saved = 1 - batch_usd / online_usd if online_usd else 0.0
    lines = [
        "",
        f"requests   {s.requests:,} ({_counts(s.producers)})",
        f"replies    {_counts(s.statuses)}; {s.retried:,} succeeded after a failed attempt",
        f"waiting    {s.wait_s[0]:.1f} s in the middle, {s.wait_s[1]:.1f} s for the slowest twentieth",
        "",
        _row("region", "deployment", "batches", "requests", "tokens in", "tokens out", "quota", "peak"),
        *(_row(*_cells(one)) for one in s.deployments),
        "",
        f"money      {batch_usd:.4f} USD, {online_usd:.4f} USD online: {saved:.0%} saved (prices are made up)",
        f"faults     {_counts(s.faults) or 'none'}; creates refused: {_counts(s.refused) or 'none'}",
        *textwrap.wrap(rudeness, 100, initial_indent=" " * 11, subsequent_indent=" " * 11),
        f"workers    {s.killed} killed on the way",
        f"time       {s.wall_s:.1f} s to the last reply, {s.total_s:.1f} s with set-up, clean-up and check",
        "",
    ]
    if s.violations:
        lines += ["NOT RIGHT:", *(f"  {violation}" for violation in s.violations)]
    else:
        lines.append(
            "checked    every request has exactly one right reply and was billed once; no quota was exceeded; "
            "nothing is left behind"
        )
    return "\n".join(lines) + "\n"


def _cells(one: DeploymentSummary) -> tuple[str, ...]:
    return (
        NAMES.get(one.region, one.region),
        one.deployment,
        str(sum(one.batches.values())),
        f"{one.requests:,}",
        f"{one.input_tokens:,}",
        f"{one.output_tokens:,}",
        f"{one.quota:,}",
        f"{one.peak_ratio:.1%}",
    )


def _row(*cells: str) -> str:
    names = (16, 18)
    return "".join(
        cell.ljust(names[place]) if place < len(names) else cell.rjust(12) for place, cell in enumerate(cells)
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
