from __future__ import annotations

from decimal import Decimal

from lowtide.core.receipts import Receipt, Share
from tests.contract.conftest import Store


def receipt(cost: str = "0.000041", *, lane: str = "batch", tasks: int = 1) -> Receipt:
    share = Share(tasks=tasks, cost_usd=Decimal(cost), list_cost_usd=2 * Decimal(cost))
    return Receipt(
        tasks=tasks,
        answered=tasks,
        cost_usd=share.cost_usd,
        list_cost_usd=share.list_cost_usd,
        by_lane={lane: share},
    )


def test_an_empty_ledger_comes_to_nothing(store: Store) -> None:
    store.ledger.put([])
    assert store.ledger.total() == Receipt()


def test_the_total_is_the_sum_of_all_entries(store: Store) -> None:
    entries = [
        ("message/1", receipt("0.000041")),
        ("message/2", receipt("0.1", lane="flex")),
        ("batch/1", receipt("2")),
    ]
    store.ledger.put(entries[:2])
    store.ledger.put(entries[2:])
    assert store.ledger.total() == Receipt.sum(each for _, each in entries)
    assert store.ledger.total().cost_usd == Decimal("2.100041")


def test_an_entry_put_again_counts_once(store: Store) -> None:
    entries = [("message/1", receipt("0.5")), ("message/2", receipt("0.25"))]
    store.ledger.put(entries)
    store.ledger.put(entries)
    assert store.ledger.total().cost_usd == Decimal("0.75")


def test_an_entry_replaces_the_one_of_its_name(store: Store) -> None:
    store.ledger.put([("batch/1", receipt("0.5", lane="batch"))])
    store.ledger.put([("batch/1", receipt("0.75", lane="flex"))])
    assert store.ledger.total() == receipt("0.75", lane="flex")


def test_the_smallest_amounts_are_kept_exactly(store: Store) -> None:
    store.ledger.put([(f"message/{number}", receipt("0.0000000001")) for number in range(30)])
    assert store.ledger.total().cost_usd == Decimal("0.0000000030")
    assert store.ledger.total().tasks == 30


def test_an_entry_that_is_taken_back_leaves_nothing(store: Store) -> None:
    store.ledger.put([("task/1", receipt("0.5", lane="flex")), ("redriven/1", -receipt("0.5", lane="flex"))])
    assert store.ledger.total() == Receipt()


def test_names_may_be_any_text(store: Store) -> None:
    store.ledger.put([("run/ligne é/1", receipt("1")), ("run/ligne é/2", receipt("1"))])
    assert store.ledger.total().tasks == 2
