from __future__ import annotations

from lowtide.core.parts import Close, Finish, Join, Open, PartState, PartVerdict
from lowtide.ports import Change
from tests.contract.cases import NOW, SOON, part
from tests.contract.conftest import Store


def test_active_lists_every_part_that_is_not_done_oldest_first(store: Store) -> None:
    opened = [part(number) for number in (3, 1, 2)]
    for each in sorted(opened, key=lambda each: each.created_at):
        store.parts.apply([Change(each.key, Open(each))], NOW)
    assert [row.part_id for row in store.parts.active()] == ["p_1", "p_2", "p_3"]
    store.parts.apply([Change("p_2", event) for event in (Close(), Join("b_1"), Finish("b_1"))], NOW)
    assert [row.part_id for row in store.parts.active()] == ["p_1", "p_3"]


def test_active_gives_rows_as_they_are_now(store: Store) -> None:
    store.parts.apply([Change("p_1", Open(part()))], NOW)
    [closed] = store.parts.apply([Change("p_1", Close())], NOW)
    assert store.parts.active() == [closed.row]


def test_a_part_joins_one_batch_only(store: Store) -> None:
    store.parts.apply([Change("p_1", Open(part())), Change("p_1", Close())], NOW)
    first, rival, repeated = store.parts.apply([Change("p_1", Join(b)) for b in ("b_1", "b_2", "b_1")], NOW)
    assert [d.verdict for d in (first, rival, repeated)] == [
        PartVerdict.APPLIED,
        PartVerdict.STALE,
        PartVerdict.REPEATED,
    ]
    [row] = store.parts.get(["p_1"])
    assert row is not None
    assert row.batch_id == "b_1"


def test_opening_again_does_not_reopen(store: Store) -> None:
    store.parts.apply([Change("p_1", Open(part())), Change("p_1", Close())], NOW)
    [again] = store.parts.apply([Change("p_1", Open(part()))], NOW)
    assert again.verdict is PartVerdict.REPEATED
    assert again.row is not None
    assert again.row.state is PartState.CLOSED


def test_a_part_left_open_joins_once_its_lease_ran_out(store: Store) -> None:
    store.parts.apply([Change("p_1", Open(part(lease_until=SOON)))], NOW)
    [early] = store.parts.apply([Change("p_1", Join("b_1"))], NOW)
    [due] = store.parts.apply([Change("p_1", Join("b_1"))], SOON)
    assert (early.verdict, due.verdict) == (PartVerdict.STALE, PartVerdict.APPLIED)
