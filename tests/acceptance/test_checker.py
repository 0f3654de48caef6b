"""The demo's judge must refuse broken histories."""

import copy
import dataclasses
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupage_emulator import journal
from groupage_emulator.demo.books import Bill, Books, Histories, books_of, histories_of
from groupage_emulator.demo.checker import Prices, Rule, check, digest_of
from groupage_emulator.demo.records import Answered, Asked

PRICES = Prices(input_usd=1.0, output_usd=4.0)
REGION, DEPLOYMENT = "eastus", "mini"


def asked(number: int, expected: Literal["succeeded", "failed"] = "succeeded") -> Asked:
    return Asked(id=f"r{number}", lane="chat", digest=f"{number:032x}", expected=expected)


def answer(number: int, status: str = "succeeded") -> Answered:
    if status != "succeeded":
        return Answered(id=f"r{number}", status=status, code="content_filter")
    cost = (100 * PRICES.input_usd + 20 * PRICES.output_usd) / 1e6
    return Answered(
        id=f"r{number}",
        status=status,
        digest=f"{number:032x}",
        input_tokens=100,
        output_tokens=20,
        cost_usd=cost,
        online_cost_usd=2 * cost,
    )


def line(number: int) -> journal.BilledLine:
    return journal.BilledLine(f"shop:r{number}", f"{number:032x}", 100, 20)


def billed(*lines: journal.BilledLine) -> journal.Billed:
    return journal.Billed(at_s=5, region=REGION, deployment=DEPLOYMENT, batch_id="b1", lines=list(lines))


def ledger(enqueued: int, *, limit: int = 1_000, phantom: int = 0) -> journal.Ledger:
    return journal.Ledger(
        at_s=3, region=REGION, deployment=DEPLOYMENT, enqueued=enqueued, limit=limit, phantom=phantom
    )


def good_journal(count: int) -> list[journal.AnyRecord]:
    """A batch of requests r0, r1 ...; r0 had to fail and is not billed."""
    return [
        journal.Upload(at_s=1, region=REGION, file_id="f1", size_bytes=9, filename="f"),
        journal.Create(
            at_s=2, region=REGION, batch_id="b1", input_file_id="f1", deployment=DEPLOYMENT, estimate=900
        ),
        ledger(900),
        billed(*(line(number) for number in range(1, count))),
        journal.Status(
            at_s=6, region=REGION, batch_id="b1", status="completed", completed=count - 1, failed=1
        ),
        ledger(0),
        journal.Delete(at_s=7, region=REGION, file_id="f1", reason="client"),
    ]


def good(count: int = 6) -> tuple[Histories, Books]:
    """A history without a fault."""
    entries: list[Asked | Answered] = [asked(0, "failed"), answer(0, "failed")]
    for number in range(1, count):
        entries += [asked(number), answer(number)]
    return histories_of({"shop": entries}), books_of(good_journal(count))


def rules(histories: Histories, books: Books) -> set[Rule]:
    return {violation.rule for violation in check(histories, books, PRICES)}


def test_good_history_passes() -> None:
    """A history in which everything is right has no violation."""
    assert check(*good(), PRICES) == []


def test_lost_reply() -> None:
    """A request without a reply is refused, although it was billed."""
    histories, books = good()
    histories["shop:r3"].answers.clear()
    assert rules(histories, books) == {Rule.LOST}


def test_second_reply() -> None:
    """A second reply of one request is refused, even an equal one."""
    histories, books = good()
    histories["shop:r3"].answers *= 2
    assert rules(histories, books) == {Rule.ANSWERED_TWICE}


def test_reply_of_unknown_request() -> None:
    """A reply whose request nobody wrote down is refused."""
    histories, books = good()
    histories |= histories_of({"shop": [answer(77)]})
    assert rules(histories, books) == {Rule.ANSWER_OF_NOBODY}


def test_swapped_replies() -> None:
    """Two replies that were exchanged are refused by their digests."""
    histories, books = good()
    one, other = histories["shop:r1"], histories["shop:r2"]
    one.answers, other.answers = other.answers, one.answers
    assert rules(histories, books) == {Rule.WRONG_DIGEST}


def test_reply_without_digest() -> None:
    """A reply that succeeded with an answer to nothing is refused."""
    histories, books = good()
    histories["shop:r1"].answers = [Answered(id="r1", status="succeeded", input_tokens=100, output_tokens=20)]
    assert Rule.WRONG_DIGEST in rules(histories, books)


def test_unexpected_failure() -> None:
    """A request that should have succeeded and failed is refused, and its bill is one in vain."""
    histories, books = good()
    histories["shop:r2"].answers = [answer(2, "failed")]
    assert rules(histories, books) == {Rule.WRONG_STATUS, Rule.BILLED_IN_VAIN}


def test_success_of_what_must_fail() -> None:
    """A request that had to be blocked and came back with an answer is refused."""
    histories, books = good()
    histories["shop:r0"].answers = [answer(0)]
    assert rules(histories, books) == {Rule.WRONG_STATUS, Rule.NOT_BILLED}


def test_billed_twice() -> None:
    """A request with two billed lines is refused, also when they stand in different batches."""
    histories, books = good()
    books.add(billed(line(4)))
    assert rules(histories, books) == {Rule.BILLED_TWICE}


def test_not_billed() -> None:
    """A success that no line was billed for is refused: somebody made it up."""
    histories, books = good()
    del books.bills["shop:r4"]
    assert rules(histories, books) == {Rule.NOT_BILLED}


def test_bill_of_another_body() -> None:
    """A line that was billed for another body than the producer's is refused."""
    histories, books = good()
    (bill,) = books.bills["shop:r4"]
    books.bills["shop:r4"] = [dataclasses.replace(bill, digest="f" * 32)]
    assert rules(histories, books) == {Rule.WRONG_BILL}


def test_bill_for_nobody() -> None:
    """A billed line that no producer asked for is refused."""
    histories, books = good()
    books.add(billed(line(99)))
    assert rules(histories, books) == {Rule.BILLED_FOR_NOBODY}


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens"])
def test_wrong_usage(field: str) -> None:
    """A reply whose tokens differ from its bill is refused."""
    histories, books = good()
    (bill,) = books.bills["shop:r4"]
    changed = {"input_tokens": bill.input_tokens, "output_tokens": bill.output_tokens, field: 7}
    books.bills["shop:r4"] = [Bill(digest=bill.digest, **changed)]
    assert rules(histories, books) == {Rule.WRONG_USAGE}


def test_wrong_cost() -> None:
    """A reply whose cost differs from tokens times price is refused."""
    histories, books = good()
    dearer = Prices(input_usd=2.0, output_usd=4.0)
    assert {v.rule for v in check(histories, books, dearer)} == {Rule.WRONG_USAGE}


def test_over_quota() -> None:
    """One instant above the quota is refused; what others hold does not count."""
    histories, books = good()
    books.add(ledger(1_400, phantom=400))
    assert check(histories, books, PRICES) == []
    books.add(ledger(1_401, phantom=400))
    assert rules(histories, books) == {Rule.OVER_QUOTA}


def test_left_behind() -> None:
    """A file that nobody deleted and a batch without an end are refused."""
    histories, books = good()
    books.add(journal.Output(at_s=8, region=REGION, file_id="f2", batch_id="b1", size_bytes=1, lines=1))
    books.add(
        journal.Create(
            at_s=9, region=REGION, batch_id="b2", input_file_id="f1", deployment=DEPLOYMENT, estimate=1
        )
    )
    assert rules(histories, books) == {Rule.FILE_LEFT, Rule.BATCH_LEFT}


def test_same_id_of_two_producers() -> None:
    """An id that two producers use names two requests: each needs its own reply."""
    histories = histories_of({"shop": [asked(1), answer(1)], "press": [asked(1)]})
    books = books_of(good_journal(2))
    assert [(v.rule, v.what) for v in check(histories, books, PRICES)] == [(Rule.LOST, "press:r1")]


def test_digest_of_many_violations() -> None:
    """Many violations of one rule become one line that counts them and names a few."""
    histories, books = good(10)
    for number in range(1, 10):
        histories[f"shop:r{number}"].answers.clear()
    (only,) = digest_of(check(histories, books, PRICES))
    assert only.startswith("9 x a request has no reply: shop:r1, ")
    assert only.endswith(", ...")


@given(st.data())
def test_every_single_change_is_noticed(data: st.DataObject) -> None:
    """Whatever single reply or bill is lost, doubled or exchanged, the judge refuses and names the request."""
    histories, books = good(8)
    histories, books = copy.deepcopy(histories), copy.deepcopy(books)
    number = data.draw(st.integers(1, 7))
    name = f"shop:r{number}"
    match data.draw(st.sampled_from(["lose", "double", "exchange", "bill twice", "bill not"])):
        case "lose":
            histories[name].answers.clear()
        case "double":
            histories[name].answers *= 2
        case "exchange":
            histories[name].answers = [answer(data.draw(st.integers(1, 7).filter(lambda n: n != number)))]
        case "bill twice":
            books.bills[name] *= 2
        case "bill not":
            del books.bills[name]
    assert {violation.what for violation in check(histories, books, PRICES)} == {name}
