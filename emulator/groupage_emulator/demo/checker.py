"""The judge: compares what the producers got with what the emulator billed; returns every broken promise.

A request that succeeded has one reply with the digest of its own body, and exactly one billed line with that digest.
A line that fails inside a batch (429, 500) is not billed; the fleet tries it again, and only the line that succeeded is.
A request that had to fail has one failed reply and no billed line.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum

from groupage_emulator.demo.books import Bill, Books, Histories, History
from groupage_emulator.demo.records import Answered, Asked

SUCCEEDED = "succeeded"
TOLERANCE_USD = 1e-9
"""Costs are sums of floats; a line of one token costs more than this."""


class Rule(StrEnum):
    """What can be broken."""

    LOST = "a request has no reply"
    ANSWERED_TWICE = "a request has more than one reply"
    ANSWER_OF_NOBODY = "a reply belongs to no request"
    WRONG_STATUS = "a request ended otherwise than it had to"
    WRONG_DIGEST = "a reply was made for another body"
    NOT_BILLED = "a request succeeded without being billed"
    BILLED_TWICE = "a request was billed more than once"
    BILLED_IN_VAIN = "a request was billed and did not succeed"
    BILLED_FOR_NOBODY = "a line was billed that no producer asked for"
    WRONG_BILL = "a line was billed for another body"
    WRONG_USAGE = "a reply says other tokens or costs than were billed"
    OVER_QUOTA = "a deployment held more than its quota"
    FILE_LEFT = "a remote file is left"
    BATCH_LEFT = "a remote batch has no end"
    STATE_LEFT = "the fleet still holds something in Redis"
    NOT_TRIED = "what the demo was asked to do did not happen"
    UNCLEAN_EXIT = "a process did not end as it should"


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: which, and of what."""

    rule: Rule
    what: str

    def __str__(self) -> str:
        return f"{self.rule.value}: {self.what}"


@dataclasses.dataclass(frozen=True, slots=True)
class Prices:
    """Batch prices in US dollars per million tokens."""

    input_usd: float
    output_usd: float

    def cost_usd(self, bill: Bill) -> float:
        """What one billed line costs."""
        return (bill.input_tokens * self.input_usd + bill.output_tokens * self.output_usd) / 1e6


def check(histories: Histories, books: Books, prices: Prices | None = None) -> list[Violation]:
    """Every violation.

    Args:
        histories: From the producers' notebooks.
        books: From the emulator's journal.
        prices: Compare costs as well; the same for all deployments.
    """
    found: list[Violation] = []
    for custom_id, history in histories.items():
        bills = books.bills.get(custom_id, ())
        found += (Violation(rule, custom_id) for rule in _request(history, bills, prices))
    found += (
        Violation(Rule.BILLED_FOR_NOBODY, custom_id)
        for custom_id in books.bills
        if custom_id not in histories
    )
    found += _remote(books)
    return found


def _request(history: History, bills: Sequence[Bill], prices: Prices | None) -> Iterator[Rule]:
    """What is wrong with one request."""
    asked, answers = history.asked, history.answers
    if asked is None:
        yield Rule.ANSWER_OF_NOBODY
        return
    if not answers:
        yield Rule.LOST
    if len(answers) > 1:
        yield Rule.ANSWERED_TWICE
    if len(bills) > 1:
        yield Rule.BILLED_TWICE
    if any(bill.digest != asked.digest for bill in bills):
        yield Rule.WRONG_BILL
    if answers:
        yield from _answer(asked, answers[0], bills, prices)


def _answer(asked: Asked, answer: Answered, bills: Sequence[Bill], prices: Prices | None) -> Iterator[Rule]:
    """What is wrong with the first reply of a request."""
    if answer.status != asked.expected:
        yield Rule.WRONG_STATUS
    if answer.status != SUCCEEDED:
        if bills:
            yield Rule.BILLED_IN_VAIN
        return
    if answer.digest != asked.digest:
        yield Rule.WRONG_DIGEST
    if not bills:
        yield Rule.NOT_BILLED
    elif not any(_is_same(answer, bill, prices) for bill in bills):
        yield Rule.WRONG_USAGE


def _is_same(answer: Answered, bill: Bill, prices: Prices | None) -> bool:
    """Whether a reply says what its bill says."""
    if (answer.input_tokens, answer.output_tokens) != (bill.input_tokens, bill.output_tokens):
        return False
    if prices is None:
        return True
    return answer.cost_usd is not None and abs(answer.cost_usd - prices.cost_usd(bill)) < TOLERANCE_USD


def _remote(books: Books) -> Iterator[Violation]:
    """Quotas that were exceeded, and what was left behind."""
    for breach in books.breaches.values():
        where = f"{breach.deployment} in {breach.region}"
        yield Violation(Rule.OVER_QUOTA, f"{where} held {breach.enqueued} of {breach.limit} tokens")
    for rule, left in ((Rule.FILE_LEFT, books.open_files), (Rule.BATCH_LEFT, books.open_batches)):
        yield from (Violation(rule, f"{name} in {region}") for name, region in left.items())


def digest_of(violations: Sequence[Violation], examples: int = 3) -> list[str]:
    """The violations for people: one line a rule, with how many and a few examples."""
    counts = Counter(violation.rule for violation in violations)
    lines = []
    for rule, count in counts.most_common():
        named = [violation.what for violation in violations if violation.rule is rule][:examples]
        more = ", ..." if count > examples else ""
        lines.append(f"{count} x {rule.value}: {', '.join(named)}{more}")
    return lines
