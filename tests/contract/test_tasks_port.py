from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.records import Pointer, Status
from lowtide.core.tasks import Accept, Release, Strikes, TaskEvent, TaskRow, TaskState, Verdict
from lowtide.ports import Change
from tests.contract.cases import LATER, NOW, SOON, claim_call, claim_part, on, settle, task
from tests.contract.conftest import Store


def test_a_claim_on_no_row_makes_the_row(store: Store) -> None:
    accepted = task()
    [decision] = store.tasks.apply([Change(accepted.key, claim_call(accepted))], NOW)
    assert decision.verdict is Verdict.APPLIED
    [row] = store.tasks.get([accepted.key])
    assert row is not None
    assert (row.state, row.attempt, row.holder, row.claimed_until) == (TaskState.CALLING, 1, "call-1", SOON)


def test_a_list_of_claims_tells_duplicates_conflicts_and_work_apart(store: Store) -> None:
    first, second, third = task(1), task(2), task(3)
    store.tasks.apply(on(first.key, claim_part(first)) + on(second.key, claim_call(second)), NOW)
    changes: list[Change[TaskRow, TaskEvent]] = [
        Change(first.key, claim_part(task(1, origin="message-9/0"), "p_2")),
        Change(second.key, claim_call(second, holder="call-2")),
        Change(third.key, claim_part(third, "p_2")),
        Change(first.key, claim_part(task(1, content_hash="other"), "p_2")),
        Change(first.key, claim_part(first, "p_2")),
    ]
    decided = store.tasks.apply(changes, NOW)
    assert [decision.verdict for decision in decided] == [
        Verdict.DUPLICATE,
        Verdict.BUSY,
        Verdict.APPLIED,
        Verdict.CONFLICT,
        Verdict.REPEATED,
    ]
    [row] = store.tasks.get([first.key])
    assert row is not None
    assert row.holder == "p_1"


def test_a_claim_that_ran_out_is_taken_over_and_counted(store: Store) -> None:
    accepted = task()
    store.tasks.apply([Change(accepted.key, claim_call(accepted))], NOW)
    [taken] = store.tasks.apply([Change(accepted.key, claim_call(accepted, holder="call-2", until=LATER))], SOON)
    assert taken.row is not None
    assert (taken.row.attempt, taken.row.repaid, taken.row.holder) == (2, 1, "call-2")
    [late] = store.tasks.apply([Change(accepted.key, settle("call-1", attempt=1))], SOON)
    assert late.verdict is Verdict.STALE


def test_settling_again_after_a_lost_reply_changes_nothing(store: Store) -> None:
    accepted = task()
    pointer = Pointer(key="results/1.jsonl", offset=0, length=10)
    end = on(accepted.key, settle("call-1", pointer=pointer))
    store.tasks.apply([Change(accepted.key, claim_call(accepted))], NOW)
    [first] = store.tasks.apply(end, NOW)
    [second] = store.tasks.apply(end, LATER)
    assert (first.verdict, second.verdict) == (Verdict.APPLIED, Verdict.REPEATED)
    assert second.row == first.row


def test_a_released_task_waits_until_its_time(store: Store) -> None:
    accepted = task()
    release = Release("call-1", 1, SOON, Strikes(failures=1, first_failed_at=NOW, last_failed_at=NOW))
    store.tasks.apply(on(accepted.key, claim_call(accepted), release), NOW)
    [early] = store.tasks.apply([Change(accepted.key, claim_call(accepted, holder="call-2"))], NOW)
    assert early.verdict is Verdict.NOT_YET
    just_before = SOON - timedelta(milliseconds=1)
    [still] = store.tasks.apply([Change(accepted.key, claim_call(accepted, holder="call-2"))], just_before)
    assert still.verdict is Verdict.NOT_YET
    [due] = store.tasks.apply([Change(accepted.key, claim_call(accepted, holder="call-2", until=LATER))], SOON)
    assert due.verdict is Verdict.APPLIED
    assert due.row is not None
    assert due.row.strikes.failures == 1


@pytest.mark.parametrize("status", list(Status))
def test_a_settled_task_is_never_called_again(store: Store, status: Status) -> None:
    accepted = task()
    store.tasks.apply([Change(accepted.key, claim_call(accepted))], NOW)
    store.tasks.apply([Change(accepted.key, settle("call-1", status=status))], NOW)
    [again] = store.tasks.apply([Change(accepted.key, claim_call(accepted, holder="call-2"))], LATER)
    assert not again.changed
    assert again.verdict is Verdict.REPEATED


def test_the_same_id_of_two_tenants_is_two_tasks(store: Store) -> None:
    ours, theirs = task(1, tenant="acme"), task(1, tenant="globex", content_hash="other")
    decided = store.tasks.apply([Change(ours.key, Accept(ours)), Change(theirs.key, Accept(theirs))], NOW)
    assert [decision.verdict for decision in decided] == [Verdict.APPLIED, Verdict.APPLIED]


def test_tasks_are_too_many_to_list(store: Store) -> None:
    with pytest.raises(TypeError):
        store.tasks.active()
