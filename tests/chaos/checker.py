"""The judge: invariants I1 to I15 of `reference/reliability.md` section 4, each a function of what a run left behind.

Code of its own: it reads diaries, the emulator's journal and Redis, and nothing that the product says of itself, but
for the counters that I15 compares. `check` runs all of them.
"""

from collections.abc import Callable

from tests.chaos.history import History, Violations
from tests.chaos.judge_bills import billed_twice, outside_zone, over_quota
from tests.chaos.judge_books import illegal_moves, imbalance, litter, miscounted
from tests.chaos.judge_replies import (
    foreign_bytes,
    lost,
    no_progress,
    replied_twice,
    reply_of_nobody,
    wrong_reply,
)


def leaked(history: History) -> Violations:
    """I13: no prompt text in logs, nor in the name of a key."""
    canary = history.rules.canary
    if not canary:
        return
    yield from (
        f"the log {name} holds a prompt" for name, text in history.logs.items() if canary.encode() in text
    )
    yield from (f"the name of {key} holds a prompt" for key in history.dump if canary in key)


def unbounded(history: History) -> Violations:
    """I14: no process uses more memory, files or spool than its bound."""
    bounds = history.bounds
    if bounds is None:
        return
    for usage in history.usage:
        for what in ("rss_bytes", "open_files", "spool_bytes"):
            if getattr(usage, what) > getattr(bounds, what):
                yield f"{usage.process}: {what} {getattr(usage, what)} of {getattr(bounds, what)}"


INVARIANTS: dict[str, Callable[[History], Violations]] = {
    "I1": lost,
    "I2": reply_of_nobody,
    "I3": replied_twice,
    "I4": wrong_reply,
    "I5": foreign_bytes,
    "I6": billed_twice,
    "I7": over_quota,
    "I8": litter,
    "I9": imbalance,
    "I10": illegal_moves,
    "I11": no_progress,
    "I12": outside_zone,
    "I13": leaked,
    "I14": unbounded,
    "I15": miscounted,
}


def check(history: History) -> list[str]:
    """Every violation of every invariant, each with its number."""
    return [f"{number} {what}" for number, rule in INVARIANTS.items() for what in rule(history)]
