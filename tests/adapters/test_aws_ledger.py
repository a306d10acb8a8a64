from __future__ import annotations

from decimal import Decimal

from aws_cases import Calls

from lowtide.adapters.aws.ledger import DynamoLedger
from lowtide.core.receipts import Receipt


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
