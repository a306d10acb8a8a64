from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import pytest
from aws_cases import Calls

from lowtide.adapters.aws.ledger import DynamoLedger
from lowtide.core.errors import Unfinished
from lowtide.core.receipts import Receipt
from lowtide.steps.deliver import enter_without_task
from lowtide_local.engine.metrics import RecordedMetrics


def receipt(tasks: int, cost: str) -> Receipt:
    return Receipt(tasks=tasks, answered=tasks, cost_usd=Decimal(cost), list_cost_usd=Decimal(cost) * 2)


def test_the_total_is_the_sum_of_all_entries_to_the_last_digit(aws):
    ledger = DynamoLedger(aws.table())
    ledger.put([(f"batch/{n}", receipt(1, "0.0000001")) for n in range(60)])
    total = ledger.total()
    assert (total.tasks, total.cost_usd, total.list_cost_usd) == (60, Decimal("0.0000060"), Decimal("0.0000120"))


def test_an_empty_ledger_totals_nothing(aws):
    assert DynamoLedger(aws.table()).total() == Receipt()


def test_an_entry_put_again_replaces_itself(aws):
    ledger = DynamoLedger(aws.table())
    for _ in range(2):
        ledger.put([("batch/1", receipt(3, "1.5")), ("batch/2", receipt(1, "1"))])
    ledger.put([("batch/2", receipt(2, "9")), ("batch/2", receipt(2, "2"))])
    assert (ledger.total().tasks, ledger.total().cost_usd) == (5, Decimal("3.5"))


def test_entries_are_put_twenty_five_a_call(aws):
    calls = Calls(aws.dynamodb)
    DynamoLedger(aws.table()).put([(f"e{n}", Receipt()) for n in range(26)])
    assert calls.names == ["BatchWriteItem"] * 2


class Throttled(Exception):
    """Stands for what the SDK raises once its own retries are used up."""


def fail_at(aws, monkeypatch, name: str) -> None:
    """The first put of the entry of this name fails."""
    real, left = aws.dynamodb.put_item, [name]

    def put_item(**given):
        if given["Item"]["sk"]["S"] in left:
            left.clear()
            raise Throttled
        return real(**given)

    monkeypatch.setattr(aws.dynamodb, "put_item", put_item)


@pytest.mark.parametrize("failing", ["intake/0", "intake/5", "intake/9"])
def test_refusals_are_counted_once_though_one_of_their_puts_failed_and_all_come_again(aws, monkeypatch, failing):
    ledger, metrics = DynamoLedger(aws.table()), RecordedMetrics()
    system = SimpleNamespace(ledger=ledger, metrics=metrics)
    entries = [(f"intake/{number}", Receipt(refused=10)) for number in range(10)]
    fail_at(aws, monkeypatch, failing)
    with pytest.raises((Throttled, Unfinished)):
        enter_without_task(system, entries)
    assert metrics.total("refused") == ledger.total().refused
    enter_without_task(system, entries)
    assert metrics.total("refused") == metrics.total("dead_letters") == ledger.total().refused == 100


def test_what_was_added_before_a_put_failed_is_told_with_the_failure(aws, monkeypatch):
    ledger = DynamoLedger(aws.table())
    ledger.put([("b", Receipt())])
    fail_at(aws, monkeypatch, "c")
    with pytest.raises(Unfinished) as raised:
        ledger.add([(name, Receipt()) for name in "abcd"])
    assert raised.value.outcomes[:2] == [True, False]
    assert all(isinstance(outcome, Throttled) for outcome in raised.value.outcomes[2:])
    assert ledger.standing(["c", "d"]) == frozenset()


def test_where_every_put_fails_the_error_is_the_putting_s_own(aws, monkeypatch):
    fail_at(aws, monkeypatch, "a")
    with pytest.raises(Throttled):
        DynamoLedger(aws.table()).add([("a", Receipt())])
