"""The judge under test: a good history passes, and each way of breaking it is refused by the invariant it breaks."""

import dataclasses
from collections.abc import Callable

import msgspec
import pytest

from groupage_emulator import journal
from tests.chaos import broken_histories as broken
from tests.chaos.checker import INVARIANTS, check
from tests.chaos.good_history import DIGEST, good, online_answer
from tests.chaos.history import History

BREAKS: list[tuple[str, Callable[[History], None]]] = [
    ("I1", broken.lose_reply),
    ("I2", broken.reply_to_stranger),
    ("I2", broken.bill_for_stranger),
    ("I2", broken.answer_a_stranger_online),
    ("I3", broken.change_reply),
    ("I3", broken.write_reply_twice),
    ("I3", broken.keep_request_beside_reply),
    ("I3", broken.unknown_status),
    ("I4", broken.swap_answers),
    ("I4", broken.fail_without_reason),
    ("I4", broken.expire_early),
    ("I4", broken.cancel_unasked),
    ("I4", broken.read_wrong_answer),
    ("I4", broken.give_up_at_once),
    ("I5", broken.show_answer_to_other),
    ("I5", broken.tell_other),
    ("I6", broken.bill_in_second_batch),
    ("I6", broken.bill_twice_in_one),
    ("I6", broken.succeed_unbilled),
    ("I6", broken.bill_other_body),
    ("I6", broken.create_twice),
    ("I6", broken.ask_twice_online),
    ("I6", broken.ask_online_what_a_batch_answered),
    ("I7", broken.overrun_service),
    ("I7", broken.overrun_ledger),
    ("I7", broken.leak_reservation),
    ("I7", broken.be_refused),
    ("I8", broken.leave_file),
    ("I8", broken.leave_batch),
    ("I8", broken.leave_manifest),
    ("I8", broken.leave_open_record),
    ("I8", broken.leave_step),
    ("I9", broken.lose_count),
    ("I9", broken.forget_queue),
    ("I9", broken.be_off_balance),
    ("I10", broken.jump),
    ("I10", broken.commit_late),
    ("I10", broken.turn_fence_back),
    ("I11", broken.stay_open),
    ("I11", broken.answer_late),
    ("I12", broken.leave_zone),
    ("I12", broken.ask_elsewhere),
    ("I13", broken.log_prompt),
    ("I13", broken.name_key_by_prompt),
    ("I14", broken.grow),
    ("I14", broken.leave_spool),
    ("I15", broken.miscount_accepted),
    ("I15", broken.miscount_settled),
]


def test_a_good_history_passes() -> None:
    """Nothing is wrong with a run in which everything went well."""
    assert check(good()) == []


@pytest.mark.parametrize(
    ("number", "spoil"), BREAKS, ids=lambda case: case if isinstance(case, str) else case.__name__
)
def test_a_broken_history_is_refused(number: str, spoil: Callable[[History], None]) -> None:
    """Each broken promise is noticed by the invariant that it breaks."""
    history = good()
    spoil(history)
    assert list(INVARIANTS[number](history)) != []
    assert any(line.startswith(f"{number} ") for line in check(history))


def test_every_invariant_is_broken_once() -> None:
    """No invariant is without a history that it refuses."""
    assert {number for number, _ in BREAKS} == set(INVARIANTS)


def test_a_fault_that_loses_paid_lines_excuses_one_bill() -> None:
    """A line that was billed, and taken away by a scripted fault, may be billed once more and not twice."""
    history = good()
    broken.bill_in_second_batch(history)
    history.service.append(
        journal.Fault(
            at_s=3.0, region="eastus", number=1, fault="lines_drop", operation="create", target="batch-1"
        )
    )
    assert check(history) == []
    line = journal.BilledLine("shop:a", DIGEST["a"], 1, 1)
    history.service.append(
        journal.Billed(at_s=4.0, region="eastus", deployment="gpt-batch", batch_id="batch-3", lines=[line])
    )
    assert [what.partition(" ")[0] for what in check(history)] == ["I6"]


def test_tokens_that_the_service_holds_too_long_are_not_ours() -> None:
    """What a batch still holds after its end may go beyond the quota, and nothing else may."""
    history = good()
    broken.overrun_service(history)
    over = history.service.pop()
    assert isinstance(over, journal.Ledger)
    history.service.append(msgspec.structs.replace(over, late=over.enqueued - over.limit))
    assert check(history) == []
    history.service.append(msgspec.structs.replace(over, late=over.enqueued - over.limit - 1))
    assert [what.partition(" ")[0] for what in check(history)] == ["I7"]


def test_an_online_answer_that_got_lost_excuses_one_more() -> None:
    """A request whose answer broke off may be asked online once more, and not twice; so may those of a death."""
    history = good()
    broken.ask_twice_online(history)
    history.service.append(
        journal.Fault(at_s=3.0, region="eastus", number=1, fault="reset", operation="online")
    )
    assert check(history) == []
    history.service.append(online_answer("d"))
    assert [what.partition(" ")[0] for what in check(history)] == ["I6"]
    other = good()
    broken.ask_online_what_a_batch_answered(other)
    other.rules = dataclasses.replace(other.rules, deaths=1)
    assert check(other) == []


def test_what_redis_lost_is_not_billed_again_while_its_files_are_there() -> None:
    """After a loss two bills are no surprise, but where all files were kept nothing may be paid a second time."""
    history = good()
    broken.bill_in_second_batch(history)
    history.rules = dataclasses.replace(history.rules, forgetful=True)
    assert check(history) == []
    history.rules = dataclasses.replace(history.rules, keeps_files=True)
    assert [what.partition(" ")[0] for what in check(history)] == ["I6"]


def test_a_run_that_is_not_at_rest_may_hold_things() -> None:
    """While a run goes on, open requests, files and reservations are no violations."""
    history = good()
    history.rules = dataclasses.replace(history.rules, at_rest=False)
    broken.leave_file(history)
    broken.leak_reservation(history)
    assert check(history) == []
