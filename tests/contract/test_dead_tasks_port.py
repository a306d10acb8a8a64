"""Dead tasks are found by how, when and whose they died, and for as long as nobody has taken them up again."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lowtide.core.dead import DeadFilter
from lowtide.core.records import Pointer, Status
from lowtide.core.tasks import Cancel, Redrive, TaskRow
from lowtide.ports import Change
from tests.contract.cases import LATER, NOW, SOON, claim_call, on, settle, task
from tests.contract.conftest import Store

EVERY = DeadFilter()
LETTER = Pointer(key="results/letters", offset=0, length=10)


def dies(store: Store, number: int, at: datetime = NOW, code: str = "invalid_request", **changes: Any) -> str:
    accepted = task(number, **changes)
    end = settle("call-1", status=Status.DEAD, error_code=code, pointer=LETTER)
    store.tasks.apply(on(accepted.key, claim_call(accepted), end), at)
    return accepted.key


def found(store: Store, wanted: DeadFilter = EVERY) -> list[str]:
    return [row.task_id for row in store.dead_tasks.find(wanted)]


def revived(store: Store, number: int, at: datetime = SOON) -> Any:
    accepted = task(number, accepted_at=at, generation=1)
    store.tasks.apply([Change(accepted.key, Redrive(accepted, Decimal(0)))], at)
    return accepted


def test_none_have_died_at_first(store: Store) -> None:
    assert found(store) == []


def test_only_the_dead_are_found_and_the_last_to_die_comes_first(store: Store) -> None:
    for number in range(1, 31):
        dies(store, number, NOW + timedelta(seconds=number))
    at_work, answered = task(50), task(51)
    store.tasks.apply([Change(at_work.key, claim_call(at_work))], NOW)
    store.tasks.apply(on(answered.key, claim_call(answered), settle("call-1", pointer=LETTER)), NOW)
    store.tasks.apply([Change("t_52 acme", Cancel("acme", "t_52"))], NOW)
    assert found(store) == [f"t_{number}" for number in range(30, 0, -1)]


def test_what_is_found_is_the_row(store: Store) -> None:
    key = dies(store, 1, tenant="globex", type=None)
    [row] = store.dead_tasks.find(EVERY)
    assert isinstance(row, TaskRow)
    assert [row] == store.tasks.get([key])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (DeadFilter(code="expired"), ["t_2"]),
        (DeadFilter(tenant="globex"), ["t_3"]),
        (DeadFilter(type="email_draft"), ["t_3", "t_2"]),
        (DeadFilter(type="email_draft", code="invalid_request"), ["t_3"]),
        (DeadFilter(code="unheard_of"), []),
        (DeadFilter(since=SOON), ["t_3", "t_2"]),
        (DeadFilter(until=SOON), ["t_2", "t_1"]),
        (DeadFilter(since=SOON, until=SOON), ["t_2"]),
    ],
)
def test_they_are_told_apart_by_code_tenant_type_and_age(store: Store, wanted: DeadFilter, expected: list[str]) -> None:
    dies(store, 1)
    dies(store, 2, SOON, "expired", type="email_draft")
    dies(store, 3, LATER, tenant="globex", type="email_draft")
    assert found(store, wanted) == expected


def test_a_code_longer_than_any_index_keeps_is_still_one_of_its_own(store: Store) -> None:
    dies(store, 1, code="x" * 300 + "1")
    dies(store, 2, code="x" * 300 + "2")
    assert found(store, DeadFilter(code="x" * 300 + "2")) == ["t_2"]


def test_a_redriven_task_is_found_as_it_died_until_somebody_takes_it_up(store: Store) -> None:
    """What a redrive that was cut off did not send is found by whoever gives it again."""
    dies(store, 1)
    accepted = revived(store, 1)
    assert found(store, DeadFilter(code="invalid_request", until=NOW)) == ["t_1"]
    store.tasks.apply([Change(accepted.key, claim_call(accepted, "call-2", LATER))], SOON)
    assert found(store) == []


def test_a_redriven_task_that_is_cancelled_is_dead_no_longer(store: Store) -> None:
    dies(store, 1)
    revived(store, 1)
    store.tasks.apply([Change("t_1 acme", Cancel("acme", "t_1"))], SOON)
    assert found(store) == []


def test_a_task_that_dies_again_is_found_where_its_last_death_puts_it(store: Store) -> None:
    dies(store, 1)
    accepted = revived(store, 1)
    again = settle("call-2", attempt=2, status=Status.DEAD, error_code="expired", pointer=LETTER)
    store.tasks.apply(on(accepted.key, claim_call(accepted, "call-2", LATER), again), LATER)
    assert found(store, DeadFilter(code="invalid_request")) == []
    assert found(store, DeadFilter(code="expired", since=LATER)) == ["t_1"]
