"""What every kind of row promises, shown on tasks, parts and batches alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from lowtide.core.batches import BatchRow, Lease, Start
from lowtide.core.errors import TooLarge
from lowtide.core.parts import Join, Open, PartRow
from lowtide.core.records import Pointer, Status
from lowtide.core.tasks import Accept, TaskRow
from lowtide.ports import Change
from tests.contract.cases import LATER, NOW, batch, claim_call, on, part, settle, task
from tests.contract.conftest import Store


@dataclass(frozen=True)
class Kind:
    """One kind's rows, the event that bears one, and the events of rivals of whom one can win."""

    rows: Callable[[Store], Any]
    key: Callable[[int], str]
    birth: Callable[[int], Any]
    rival: Callable[[int], Any]


KINDS = {
    "tasks": Kind(
        rows=lambda store: store.tasks,
        key=lambda number: task(number).key,
        birth=lambda number: Accept(task(number)),
        rival=lambda rival: claim_call(task(1), holder=f"call-{rival}"),
    ),
    "parts": Kind(
        rows=lambda store: store.parts,
        key=lambda number: f"p_{number}",
        birth=lambda number: Open(part(number, lease_until=NOW)),
        rival=lambda rival: Join(f"b_{rival}"),
    ),
    "batches": Kind(
        rows=lambda store: store.batches,
        key=lambda number: f"b_{number}",
        birth=lambda number: Start(batch(number)),
        rival=lambda rival: Lease(f"poller-{rival}", LATER),
    ),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def born(store: Store, kind: Kind, *numbers: int) -> list[Any]:
    decisions = kind.rows(store).apply([Change(kind.key(number), kind.birth(number)) for number in numbers], NOW)
    return [decision.row for decision in decisions]


def verdicts(decisions: Sequence[Any]) -> list[str]:
    return [decision.verdict.value for decision in decisions]


def test_a_row_that_nobody_wrote_is_none(store: Store, kind: Kind) -> None:
    assert kind.rows(store).get([kind.key(1)]) == [None]
    assert kind.rows(store).get([]) == []
    assert kind.rows(store).apply([], NOW) == []


def test_a_row_is_born_with_revision_one_and_reads_back_as_it_was_written(store: Store, kind: Kind) -> None:
    [row] = born(store, kind, 1)
    assert row.rev == 1
    assert kind.rows(store).get([kind.key(1)]) == [row]


def test_rows_are_read_in_the_order_of_the_keys(store: Store, kind: Kind) -> None:
    one, two = born(store, kind, 1, 2)
    keys = [kind.key(number) for number in (2, 9, 1, 2)]
    assert kind.rows(store).get(keys) == [two, None, one, two]


def test_every_write_adds_one_to_the_revision_and_a_verdict_alone_adds_none(store: Store, kind: Kind) -> None:
    born(store, kind, 1)
    rows = kind.rows(store)
    [moved] = rows.apply([Change(kind.key(1), kind.rival(1))], NOW)
    assert moved.changed
    assert moved.row.rev == 2
    [repeated] = rows.apply([Change(kind.key(1), kind.birth(1))], NOW)
    assert not repeated.changed
    assert repeated.verdict.value == "repeated"
    assert repeated.row == moved.row
    assert rows.get([kind.key(1)]) == [moved.row]


def test_verdicts_come_in_the_order_of_the_changes(store: Store, kind: Kind) -> None:
    born(store, kind, 2)
    changes: list[Change[Any, Any]] = [Change(kind.key(number), kind.birth(number)) for number in (1, 2, 3)]
    assert verdicts(kind.rows(store).apply(changes, NOW)) == ["applied", "repeated", "applied"]


def test_changes_to_one_row_are_applied_in_their_order(store: Store, kind: Kind) -> None:
    key = kind.key(1)
    changes = on(key, kind.birth(1), kind.rival(1), kind.rival(2), kind.birth(1))
    first, won, lost, again = kind.rows(store).apply(changes, NOW)
    assert verdicts([first, won, again]) == ["applied", "applied", "repeated"]
    assert not lost.changed
    assert [first.row.rev, won.row.rev, lost.row.rev, again.row.rev] == [1, 2, 2, 2]
    assert kind.rows(store).get([key]) == [won.row]


def test_changes_to_one_row_are_applied_in_their_order_among_others(store: Store, kind: Kind) -> None:
    changes: list[Change[Any, Any]] = [
        Change(kind.key(1), kind.birth(1)),
        Change(kind.key(2), kind.birth(2)),
        Change(kind.key(1), kind.rival(1)),
        Change(kind.key(2), kind.birth(2)),
    ]
    assert verdicts(kind.rows(store).apply(changes, NOW)) == ["applied", "applied", "applied", "repeated"]


def test_a_right_guess_moves_the_row(store: Store, kind: Kind) -> None:
    [row] = born(store, kind, 1)
    [moved] = kind.rows(store).apply([Change(kind.key(1), kind.rival(1), seen=row)], NOW)
    assert moved.changed
    assert kind.rows(store).get([kind.key(1)]) == [moved.row]


def test_the_guess_that_there_is_no_row_is_checked(store: Store, kind: Kind) -> None:
    [row] = born(store, kind, 1)
    [repeated] = kind.rows(store).apply([Change(kind.key(1), kind.birth(1), seen=None)], NOW)
    assert (repeated.verdict.value, repeated.changed, repeated.row) == ("repeated", False, row)


def test_an_outdated_guess_is_decided_on_the_row_as_it_is(store: Store, kind: Kind) -> None:
    [old] = born(store, kind, 1)
    [won] = kind.rows(store).apply([Change(kind.key(1), kind.rival(1), seen=old)], NOW)
    [lost] = kind.rows(store).apply([Change(kind.key(1), kind.rival(2), seen=old)], NOW)
    assert won.changed
    assert not lost.changed
    assert lost.row == won.row
    assert kind.rows(store).get([kind.key(1)]) == [won.row]


def test_a_guess_at_a_row_that_is_not_there_is_decided_on_none(store: Store, kind: Kind) -> None:
    [other] = born(store, kind, 1)
    [decision] = kind.rows(store).apply([Change(kind.key(2), kind.birth(2), seen=other)], NOW)
    assert decision.verdict.value == "applied"
    assert decision.row.rev == 1
    assert kind.rows(store).get([kind.key(2)]) == [decision.row]


def test_nothing_to_do_is_only_believed_of_the_row_itself(store: Store, kind: Kind) -> None:
    """A guess on which the event would change nothing must not hide a row on which it does."""
    [first] = born(store, kind, 1)
    rows = kind.rows(store)
    [held] = rows.apply([Change(kind.key(1), kind.rival(1), seen=first)], NOW)
    [decision] = rows.apply([Change(kind.key(2), kind.birth(2), seen=held.row)], NOW)
    assert decision.changed
    assert rows.get([kind.key(2)]) == [decision.row]


def test_of_many_writers_at_once_one_wins_and_the_others_see_who(store: Store, kind: Kind) -> None:
    [seen] = born(store, kind, 1)
    rows = kind.rows(store)

    def race(rival: int) -> Any:
        [decision] = rows.apply([Change(kind.key(1), kind.rival(rival), seen=seen)], NOW)
        return decision

    with ThreadPoolExecutor(4) as threads:
        decisions = list(threads.map(race, range(4)))
    [winner] = [decision for decision in decisions if decision.changed]
    assert all(decision.row == winner.row for decision in decisions)
    assert rows.get([kind.key(1)]) == [winner.row]


def test_kinds_do_not_share_keys(store: Store) -> None:
    store.parts.apply([Change("same", Open(part()))], NOW)
    assert store.batches.get(["same"]) == [None]
    [decision] = store.batches.apply([Change("same", Start(batch()))], NOW)
    assert decision.row is not None
    assert decision.row.rev == 1
    assert isinstance(store.parts.get(["same"])[0], PartRow)
    assert isinstance(store.batches.get(["same"])[0], BatchRow)


def test_a_whole_row_comes_back_to_the_last_field(store: Store) -> None:
    """Money, moments, nested values and what is not ASCII survive the journey."""
    accepted = task(1, tenant="équipe", deadline_at=NOW + timedelta(milliseconds=1), type=None)
    [decision] = store.tasks.apply([Change(accepted.key, claim_call(accepted))], NOW)
    [row] = store.tasks.get([accepted.key])
    assert isinstance(row, TaskRow)
    assert row == decision.row
    assert row.tenant == "équipe"
    assert row.deadline_at == NOW + timedelta(milliseconds=1)
    assert isinstance(row.claimed_until, datetime)


def test_a_row_beyond_what_an_item_holds_is_refused_and_stays_as_it_was(store: Store) -> None:
    accepted = task(1)
    [before] = store.tasks.apply([Change(accepted.key, claim_call(accepted, holder="call-1"))], NOW)
    later = NOW + timedelta(hours=2)
    with pytest.raises(TooLarge):
        store.tasks.apply([Change(accepted.key, claim_call(accepted, holder="x" * 410_000))], later)
    assert store.tasks.get([accepted.key]) == [before.row]


def test_a_pointer_is_kept(store: Store) -> None:
    accepted = task(1)
    pointer = Pointer(key="results/b_1/0.jsonl", offset=2**33, length=17)
    end = settle("call-1", status=Status.DEAD, error_code="invalid_request", pointer=pointer)
    store.tasks.apply(on(accepted.key, claim_call(accepted), end), NOW)
    [row] = store.tasks.get([accepted.key])
    assert row is not None
    assert row.pointer == pointer
    assert row.error_code == "invalid_request"
    assert row.settled_at == NOW
