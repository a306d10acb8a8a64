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


def test_adding_says_which_names_are_new_and_replaces_like_a_put(store: Store) -> None:
    assert store.ledger.add([("duplicate/1", receipt("0.5")), ("duplicate/2", receipt("0.25"))]) == {
        "duplicate/1",
        "duplicate/2",
    }
    assert store.ledger.add([("duplicate/2", receipt("0.75")), ("duplicate/3", receipt("1"))]) == {"duplicate/3"}
    assert store.ledger.total().cost_usd == Decimal("2.25")


def test_what_was_put_is_not_new_when_it_is_added_and_nothing_added_is_nothing_new(store: Store) -> None:
    store.ledger.put([("task/1", receipt())])
    assert store.ledger.add([("task/1", receipt())]) == frozenset()
    assert store.ledger.add([]) == frozenset()


def test_of_two_entries_with_one_name_the_last_is_added_and_the_name_is_new_once(store: Store) -> None:
    assert store.ledger.add([("task/1", receipt("1")), ("task/1", receipt("2"))]) == {"task/1"}
    assert store.ledger.total().cost_usd == Decimal(2)


def test_only_what_has_an_entry_stands(store: Store) -> None:
    store.ledger.put([(f"task/{number}", receipt()) for number in range(3)])
    assert store.ledger.standing(["task/1", "task/9", "task/2", "task/1"]) == {"task/1", "task/2"}
    assert store.ledger.standing([]) == frozenset()


def test_names_may_be_any_text(store: Store) -> None:
    store.ledger.put([("run/ligne é/1", receipt("1")), ("run/ligne é/2", receipt("1"))])
    assert store.ledger.total().tasks == 2
