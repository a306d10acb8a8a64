from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from lowtide.core.records import Pointer, Status
from lowtide.core.tasks import Accept, Cancel, Redrive, Release, Strikes, TaskEvent, TaskRow, TaskState, Verdict
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
    assert again.verdict is (Verdict.CANCELLED if status is Status.CANCELLED else Verdict.REPEATED)


def test_a_cancel_before_the_first_claim_is_met_by_it(store: Store) -> None:
    accepted = task()
    cancel = on(accepted.key, Cancel(accepted.tenant, accepted.task_id))
    [first], [second] = store.tasks.apply(cancel, NOW), store.tasks.apply(cancel, NOW)
    assert (first.verdict, second.verdict) == (Verdict.APPLIED, Verdict.REPEATED)
    [met] = store.tasks.apply([Change(accepted.key, claim_part(accepted))], SOON)
    [again] = store.tasks.apply([Change(accepted.key, claim_part(accepted, "p_2"))], LATER)
    assert (met.verdict, again.verdict) == (Verdict.CANCELLED, Verdict.CANCELLED)
    assert met.row == again.row
    [row] = store.tasks.get([accepted.key])
    assert row == met.row
    assert row is not None
    assert row.document is not None
    assert (row.document.record.status, row.document.record.finished_at) == (Status.CANCELLED, SOON)


def test_an_answer_in_vain_is_written_down_once(store: Store) -> None:
    accepted = task()
    store.tasks.apply(on(accepted.key, claim_part(accepted), Cancel("acme", "t_1", accepted)), NOW)
    late = on(accepted.key, settle("p_1", pointer=Pointer(key="results/1.jsonl", offset=0, length=10)))
    [first], [second] = store.tasks.apply(late, SOON), store.tasks.apply(late, SOON)
    assert (first.verdict, second.verdict) == (Verdict.IN_VAIN, Verdict.IN_VAIN)
    [row] = store.tasks.get([accepted.key])
    assert row == first.row == second.row
    assert row is not None
    assert (row.state, row.repaid) == (TaskState.CANCELLED, 1)


def test_a_redrive_is_repeated_until_its_message_is_met_and_nothing_else_claims_the_row(store: Store) -> None:
    accepted = task()
    dies = settle("call-1", status=Status.DEAD, pointer=Pointer(key="results/1.jsonl", offset=0, length=10))
    store.tasks.apply(on(accepted.key, claim_call(accepted), dies), NOW)
    revived = task(generation=1, accepted_at=SOON)
    change = on(accepted.key, Redrive(revived, Decimal("0.25")))
    [first], [second] = store.tasks.apply(change, SOON), store.tasks.apply(change, SOON)
    assert (first.verdict, second.verdict) == (Verdict.APPLIED, Verdict.REPEATED)
    [row] = store.tasks.get([accepted.key])
    assert row is not None
    assert (row.state, row.generation, row.attempt, row.strikes.spent_usd) == (TaskState.QUEUED, 1, 1, Decimal("0.25"))
    [old] = store.tasks.apply([Change(accepted.key, claim_call(accepted, "call-2", LATER))], SOON)
    assert old.verdict is Verdict.REPEATED
    [new] = store.tasks.apply([Change(accepted.key, claim_call(revived, "call-3", LATER))], SOON)
    assert new.verdict is Verdict.APPLIED
    [late] = store.tasks.apply(change, SOON)
    assert late.verdict is Verdict.STALE


def test_the_same_id_of_two_tenants_is_two_tasks(store: Store) -> None:
    ours, theirs = task(1, tenant="acme"), task(1, tenant="globex", content_hash="other")
    decided = store.tasks.apply([Change(ours.key, Accept(ours)), Change(theirs.key, Accept(theirs))], NOW)
    assert [decision.verdict for decision in decided] == [Verdict.APPLIED, Verdict.APPLIED]


def test_tasks_are_too_many_to_list(store: Store) -> None:
    with pytest.raises(TypeError):
        store.tasks.active()
