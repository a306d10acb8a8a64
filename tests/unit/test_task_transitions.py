from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.records import Pointer, Status
from lowtide.core.tasks import (
    SETTLED,
    Accept,
    Cancel,
    Carry,
    Choose,
    Decision,
    Free,
    ModelChoice,
    Onward,
    Redrive,
    Release,
    Restage,
    Strikes,
    TaskEvent,
    TaskRow,
    TaskState,
    Verdict,
    transition,
)
from tests.contract.cases import LATER, NOW, SOON, claim_call, claim_part, settle, task

TASK = task()
ELSEWHERE = task(origin="message-2/0")
"""The same task, brought by another delivery."""
OTHER = task(content_hash="other")
"""Another task under the same id."""
STRIKES = Strikes(failures=1, spent_usd=Decimal("0.01"), first_failed_at=NOW, last_failed_at=NOW)
REVIVED = task(generation=1, accepted_at=LATER, deadline_at=LATER + timedelta(hours=24))
"""What a redrive sends."""
CHOICE = ModelChoice(profile="simple", model="gpt-5-nano", reason="auto: simple", question_id="digest-q1")
SPENT = Decimal("0.02")
POINTER = Pointer(key="results/1.jsonl", offset=10, length=20)


def after(*events: TaskEvent, now: datetime = NOW) -> TaskRow:
    """The row that these events leave, each of which must apply."""
    row: TaskRow | None = None
    for event in events:
        decision = transition(row, event, now)
        assert decision.verdict is Verdict.APPLIED
        row = decision.row
    assert row is not None
    return row


CALL = claim_call(TASK, "call-1", SOON)
CANCEL = Cancel("acme", "t_1")
STAGED_CANCEL = Cancel("acme", "t_1", TASK)
DIES = settle("call-1", status=Status.DEAD, pointer=POINTER)
ROWS: dict[str, TaskRow | None] = {
    "none": None,
    "queued": after(Accept(TASK)),
    "waiting": after(CALL, Release("call-1", 1, LATER, STRIKES)),
    "calling": after(CALL),
    "lapsed": after(claim_call(TASK, "call-1", NOW)),
    "staged": after(claim_part(TASK, "p_1")),
    "answered": after(CALL, settle("call-1")),
    "dead": after(CALL, DIES),
    "revived": after(CALL, DIES, Redrive(REVIVED, SPENT)),
    "tomb": after(CANCEL),
    "cancelling": after(Accept(TASK), CANCEL),
    "cancelled": after(claim_part(TASK, "p_1"), STAGED_CANCEL),
    "freed": after(claim_part(TASK, "p_1"), Free(frozenset({"p_1"}), "b_1", 1, STRIKES)),
    "stopped": after(claim_part(TASK, "p_1"), settle("p_1", status=Status.CANCELLED, pointer=POINTER)),
}
EVENTS: dict[str, TaskEvent] = {
    "accept": Accept(TASK),
    "accept elsewhere": Accept(ELSEWHERE),
    "accept other": Accept(OTHER),
    "call": claim_call(TASK, "call-2", LATER),
    "call elsewhere": claim_call(ELSEWHERE, "call-2", LATER),
    "call other": claim_call(OTHER, "call-2", LATER),
    "part": claim_part(TASK, "p_2"),
    "part elsewhere": claim_part(ELSEWHERE, "p_2"),
    "part other": claim_part(OTHER, "p_2"),
    "restage": Restage(1, frozenset({"p_1"}), "r_1", STRIKES),
    "restage old": Restage(0, frozenset({"p_1"}), "r_1", STRIKES),
    "restage foreign": Restage(1, frozenset({"p_9"}), "r_1", STRIKES),
    "carry": Carry(frozenset({"p_1"}), "p_2"),
    "carry foreign": Carry(frozenset({"p_9"}), "p_2"),
    "free": Free(frozenset({"p_1"}), "b_1", 1, STRIKES),
    "free from part": Free(frozenset({"p_1"}), "b_1"),
    "free old": Free(frozenset({"p_1"}), "b_1", 0, STRIKES),
    "free foreign": Free(frozenset({"p_9"}), "b_9", 1, STRIKES),
    "choose": Choose("call-1", 1, CHOICE, Onward.CALL, SPENT),
    "choose for batch": Choose("call-1", 1, CHOICE, Onward.BATCH, SPENT),
    "choose old": Choose("call-1", 0, CHOICE, Onward.CALL, SPENT),
    "choose foreign": Choose("call-9", 1, CHOICE, Onward.BATCH, SPENT),
    "release": Release("call-1", 1, LATER, STRIKES),
    "release old": Release("call-1", 0, LATER, STRIKES),
    "release foreign": Release("call-9", 1, LATER, STRIKES),
    "settle call": settle("call-1", "call-8"),
    "settle part": settle("p_1", "p_8"),
    "settle old": settle("call-1", "p_1", attempt=0),
    "settle early": settle("call-1", "p_1", attempt=2),
    "settle foreign": settle("call-9", "p_9"),
    "settle dead": settle("p_1", status=Status.DEAD),
    "cancel": CANCEL,
    "cancel in part": STAGED_CANCEL,
    "redrive": Redrive(REVIVED, SPENT),
    "redrive early": Redrive(task(generation=2), SPENT),
    "redrive other": Redrive(task(generation=1, content_hash="other"), SPENT),
    "call revived": claim_call(REVIVED, "call-3", LATER + timedelta(hours=1)),
    "part revived": claim_part(REVIVED, "p_3"),
}
# + applied, = repeated, D duplicate, C conflict, B busy, N not yet, . stale, X cancelled, V in vain
SIGNS = dict(zip("+=DCBN.XV", Verdict, strict=True))
CHANGING = (Verdict.APPLIED, Verdict.CANCELLED, Verdict.IN_VAIN)
TABLE = """
                 none queued waiting calling lapsed staged answered dead revived tomb cancelling cancelled freed stopped
accept            +     =       =       =      =      =       =      =      =     +       =          =       =      =
accept elsewhere  +     D       D       D      D      D       D      D      D     +       D          D       D      D
accept other      +     C       C       C      C      C       C      C      C     +       C          C       C      C
call              +     +       N       B      +      =       =      =      =     X       X          X       +      =
call elsewhere    +     +       N       B      +      D       D      D      D     X       X          X       +      D
call other        +     C       C       C      C      C       C      C      C     X       C          C       C      C
part              +     +       N       B      +      =       =      =      =     X       X          X       =      =
part elsewhere    +     +       N       B      +      D       D      D      D     X       X          X       D      D
part other        +     C       C       C      C      C       C      C      C     X       C          C       C      C
restage           .     .       .       .      .      +       .      .      .     .       .          .       .      .
restage old       .     .       .       .      .      .       .      .      .     .       .          .       .      .
restage foreign   .     .       .       .      .      .       .      .      .     .       .          .       .      .
carry             .     .       .       .      .      +       .      .      .     .       .          .       .      .
carry foreign     .     .       .       .      .      .       .      .      .     .       .          .       .      .
free              .     .       .       .      .      +       .      .      .     .       .          .       =      .
free from part    .     .       .       .      .      +       .      .      .     .       .          .       =      .
free old          .     .       .       .      .      .       .      .      .     .       .          .       .      .
free foreign      .     .       .       .      .      .       .      .      .     .       .          .       .      .
choose            .     .       .       +      +      .       .      .      .     .       .          .       .      .
choose for batch  .     .       .       +      +      .       .      .      .     .       .          .       .      .
choose old        .     .       .       .      .      .       .      .      .     .       .          .       .      .
choose foreign    .     .       .       .      .      .       .      .      .     .       .          .       .      .
release           .     .       .       +      +      .       .      .      .     .       .          .       .      .
release old       .     .       .       .      .      .       .      .      .     .       .          .       .      .
release foreign   .     .       .       .      .      .       .      .      .     .       .          .       .      .
settle call       .     .       .       +      +      .       =      .      .     .       .          .       .      .
settle part       .     .       .       .      .      +       .      .      .     .       .          V       .      .
settle old        .     .       .       .      .      .       .      .      .     .       .          .       .      .
settle early      .     .       .       .      .      .       .      .      .     .       .          .       .      .
settle foreign    .     .       .       .      .      .       .      .      .     .       .          .       .      .
settle dead       .     .       .       .      .      +       .      .      .     .       .          .       .      .
cancel            +     +       +       +      +      .       .      .      +     =       =          =       +      =
cancel in part    +     +       +       +      +      +       .      .      +     =       =          =       +      =
redrive           .     .       .       .      .      .       .      +      =     .       .          .       .      .
redrive early     .     .       .       .      .      .       .      .      .     .       .          .       .      .
redrive other     .     .       .       .      .      .       .      .      .     .       .          .       .      .
call revived      +     +       N       B      +      =       =      =      +     X       X          X       +      =
part revived      +     +       N       B      +      =       =      =      +     X       X          X       =      =
"""
_HEAD, *_LINES = TABLE.strip().splitlines()
CASES = [
    (row, event, SIGNS[sign])
    for line in _LINES
    for event in [line[:17].strip()]
    for row, sign in zip(_HEAD.split(), line[17:].split(), strict=True)
]


def test_the_table_has_every_row_every_event_and_every_state() -> None:
    assert {(row, event) for row, event, _ in CASES} == {(row, event) for row in ROWS for event in EVENTS}
    assert {type(event) for event in EVENTS.values()} == set(get_args(TaskEvent))
    assert {row.state for row in ROWS.values() if row is not None} == set(TaskState)


@pytest.mark.parametrize(("row", "event", "verdict"), CASES)
def test_every_state_takes_every_event(row: str, event: str, verdict: Verdict) -> None:
    decision = transition(ROWS[row], EVENTS[event], NOW)
    assert decision.verdict is verdict
    assert decision.changed or verdict is not Verdict.APPLIED
    assert not decision.changed or verdict in CHANGING
    if not decision.changed:
        assert decision.row is ROWS[row]


@pytest.mark.parametrize(("row", "event", "verdict"), CASES)
def test_an_event_that_is_repeated_changes_nothing(row: str, event: str, verdict: Verdict) -> None:
    first = transition(ROWS[row], EVENTS[event], NOW)
    second = transition(first.row, EVENTS[event], NOW)
    assert second == replace(first, verdict=second.verdict, changed=False)
    assert second.verdict is not Verdict.APPLIED


REPEATABLE = (
    *("accept", "part", "restage", "carry", "free", "free from part"),
    *("accept", "part", "choose", "choose for batch", "restage", "carry"),
    *("settle call", "settle part", "cancel", "cancel in part", "redrive"),
)


@pytest.mark.parametrize(
    ("row", "event"), [(row, event) for row, event, v in CASES if v is Verdict.APPLIED and event in REPEATABLE]
)
def test_repeating_what_took_effect_says_so(row: str, event: str) -> None:
    first = transition(ROWS[row], EVENTS[event], NOW)
    assert transition(first.row, EVENTS[event], LATER).verdict is Verdict.REPEATED


def applied(decision: Decision) -> TaskRow:
    assert decision.verdict is Verdict.APPLIED
    assert decision.row is not None
    return decision.row


def test_a_born_row_carries_what_the_task_said() -> None:
    row = after(Accept(TASK))
    for name in ("tenant", "task_id", "content_hash", "origin", "tier", "type", "model", "accepted_at", "deadline_at"):
        assert getattr(row, name) == getattr(TASK, name)
    assert (row.state, row.attempt, row.generation, row.repaid, row.rev) == (TaskState.QUEUED, 0, 0, 0, 0)


def test_a_claim_begins_the_next_attempt_and_forgets_the_wait() -> None:
    row = applied(transition(ROWS["waiting"], claim_call(TASK, "call-2", LATER + timedelta(hours=1)), LATER))
    assert (row.state, row.attempt, row.holder, row.not_before) == (TaskState.CALLING, 2, "call-2", None)
    assert row.strikes == STRIKES
    assert row.repaid == 0
    assert row.claimed_at == LATER


def test_a_row_remembers_its_last_claim_beyond_its_end() -> None:
    row = applied(transition(ROWS["calling"], settle("call-1"), LATER))
    assert (row.claimed_at, row.claimed_until, row.settled_at) == (NOW, None, LATER)


def test_taking_over_a_lapsed_claim_counts_a_possible_second_payment_but_no_failure() -> None:
    row = applied(transition(ROWS["lapsed"], claim_call(TASK, "call-2", LATER), NOW))
    assert (row.attempt, row.repaid, row.holder) == (2, 1, "call-2")
    assert row.strikes == Strikes()


def test_a_part_may_take_over_a_lapsed_call() -> None:
    row = applied(transition(ROWS["lapsed"], claim_part(TASK, "p_1"), NOW))
    assert (row.state, row.repaid, row.claimed_until) == (TaskState.STAGED, 1, None)


def test_a_claim_holds_to_its_last_moment_and_not_beyond() -> None:
    rival = claim_call(TASK, "call-2", LATER)
    assert transition(ROWS["calling"], rival, SOON - timedelta(milliseconds=1)).verdict is Verdict.BUSY
    assert transition(ROWS["calling"], rival, SOON).verdict is Verdict.APPLIED


def test_a_retry_waits_to_its_moment_and_not_beyond() -> None:
    rival = claim_call(TASK, "call-2", LATER + timedelta(hours=1))
    assert transition(ROWS["waiting"], rival, LATER - timedelta(milliseconds=1)).verdict is Verdict.NOT_YET
    assert transition(ROWS["waiting"], rival, LATER).verdict is Verdict.APPLIED


def test_a_release_gives_the_task_back_with_its_strikes() -> None:
    row = applied(transition(ROWS["calling"], Release("call-1", 1, LATER, STRIKES, unsure=1), NOW))
    assert (row.state, row.holder, row.claimed_until, row.not_before) == (TaskState.QUEUED, None, None, LATER)
    assert (row.strikes, row.repaid, row.attempt) == (STRIKES, 1, 1)


def test_a_model_that_was_chosen_is_on_the_row_with_what_asking_cost_and_the_claim_goes_on() -> None:
    row = applied(transition(ROWS["calling"], replace(EVENTS["choose"], unsure=1), NOW))
    assert (row.choice, row.model, row.strikes.spent_usd, row.repaid) == (CHOICE, "gpt-5-nano", SPENT, 1)
    assert (row.state, row.attempt, row.holder) == (TaskState.CALLING, 1, "call-1")


def test_choosing_for_a_batch_gives_the_task_back_and_was_no_attempt() -> None:
    row = applied(transition(ROWS["calling"], EVENTS["choose for batch"], NOW))
    assert (row.state, row.attempt, row.holder, row.claimed_until) == (TaskState.QUEUED, 0, None, None)
    staged = applied(transition(row, claim_part(TASK), NOW))
    assert (staged.attempt, staged.choice, staged.strikes.spent_usd) == (1, CHOICE, SPENT)


def test_whoever_takes_over_from_a_crash_finds_the_choice_that_was_made() -> None:
    chosen = applied(transition(ROWS["lapsed"], EVENTS["choose"], NOW))
    row = applied(transition(chosen, claim_call(TASK, "call-2", LATER), NOW))
    assert (row.choice, row.repaid, row.strikes.spent_usd) == (CHOICE, 1, SPENT)


def test_a_redrive_keeps_the_choice_so_that_nothing_is_asked_twice() -> None:
    auto = task(candidates={"simple": "gpt-5-nano", "standard": "gpt-5-mini"})
    dead = after(claim_call(auto, "call-1", SOON), EVENTS["choose"], DIES)
    again = auto.model_copy(update={"generation": 1})
    row = applied(transition(dead, Redrive(again, SPENT), LATER))
    assert (row.choice, row.model) == (CHOICE, "gpt-5-nano")
    decided = transition(dead, Redrive(again.model_copy(update={"candidates": None}), SPENT), LATER)
    assert applied(decided).model == again.model


def test_a_restage_begins_the_next_attempt_in_the_retry_part() -> None:
    row = applied(transition(ROWS["staged"], EVENTS["restage"], NOW))
    assert (row.state, row.attempt, row.holder, row.strikes) == (TaskState.STAGED, 2, "r_1", STRIKES)


def test_a_carried_task_keeps_its_attempt() -> None:
    row = applied(transition(ROWS["staged"], EVENTS["carry"], NOW))
    assert (row.state, row.attempt, row.holder) == (TaskState.STAGED, 1, "p_2")


SLEEPER = task(origin="message-2/0", task_token="token-2")
"""The same task with a sleeper of its own."""


@pytest.mark.parametrize("claim", [claim_call(SLEEPER, "call-2", LATER), claim_part(SLEEPER, "p_2")])
@pytest.mark.parametrize("row", ["queued", "lapsed"])
def test_a_copy_that_claims_a_task_is_told_its_end_and_stays_a_copy(row: str, claim: TaskEvent) -> None:
    claimed = applied(transition(ROWS[row], claim, NOW))
    assert (claimed.origin, claimed.token_digest) == (TASK.origin, SLEEPER.token_digest)


def test_a_copy_that_carries_a_task_into_its_own_part_is_told_its_end() -> None:
    row = applied(transition(ROWS["staged"], Carry(frozenset({"p_1"}), "p_2", SLEEPER), NOW))
    assert (row.origin, row.token_digest) == (TASK.origin, SLEEPER.token_digest)


def test_any_copy_writes_the_record_of_a_task_that_is_being_cancelled() -> None:
    decision = transition(ROWS["cancelling"], claim_call(ELSEWHERE, "call-2", LATER), NOW)
    assert decision.row is not None
    assert (decision.row.state, decision.row.origin) == (TaskState.CANCELLED, TASK.origin)
    assert decision.row.document is not None


def test_a_freed_task_waits_for_nothing_and_says_what_it_was_rescued_from() -> None:
    row = applied(transition(ROWS["staged"], Free(frozenset({"p_1"}), "b_1", 1, STRIKES, unsure=1), NOW))
    assert (row.state, row.attempt, row.holder, row.not_before) == (TaskState.QUEUED, 1, None, None)
    assert (row.rescued_from, row.strikes, row.repaid) == ("b_1", STRIKES, 1)


def test_a_task_that_leaves_a_part_by_itself_keeps_what_it_has_been_through() -> None:
    staged = after(claim_part(TASK, "p_0"), Restage(1, frozenset({"p_0"}), "p_1", STRIKES))
    assert applied(transition(staged, EVENTS["free from part"], NOW)).strikes == STRIKES


def test_a_freed_task_is_called_for_under_the_next_attempt_and_then_freeing_again_comes_too_late() -> None:
    called = applied(transition(ROWS["freed"], claim_call(TASK, "call-1", SOON), NOW))
    assert (called.attempt, called.repaid) == (2, 0)
    assert transition(called, EVENTS["free"], NOW).verdict is Verdict.STALE
    assert transition(called, EVENTS["free from part"], NOW).verdict is Verdict.STALE


def test_a_freed_task_goes_into_no_part_again_whoever_brings_it() -> None:
    assert transition(ROWS["freed"], EVENTS["part"], LATER).verdict is Verdict.REPEATED
    assert transition(ROWS["freed"], EVENTS["part elsewhere"], LATER).verdict is Verdict.DUPLICATE


def test_the_late_answer_of_a_batch_that_a_task_was_freed_from_settles_nothing() -> None:
    assert transition(ROWS["freed"], settle("p_1", attempt=1), NOW).verdict is Verdict.STALE


def test_a_freed_task_that_is_cancelled_before_its_message_was_sent_is_sent_all_the_same_to_meet_its_record() -> None:
    cancelled = applied(transition(ROWS["freed"], CANCEL, NOW))
    assert transition(cancelled, EVENTS["free"], NOW).verdict is Verdict.REPEATED
    assert transition(cancelled, EVENTS["call"], NOW).verdict is Verdict.CANCELLED


def test_a_late_answer_to_an_old_attempt_settles_nothing() -> None:
    restaged = applied(transition(ROWS["staged"], EVENTS["restage"], NOW))
    assert transition(restaged, settle("p_1", "r_1", attempt=1), NOW).verdict is Verdict.STALE
    assert transition(restaged, settle("p_1", "r_1", attempt=2), NOW).verdict is Verdict.APPLIED


@pytest.mark.parametrize("status", list(Status))
def test_a_settled_row_keeps_its_end(status: Status) -> None:
    end = settle("call-1", status=status, error_code="code", pointer=POINTER, unsure=1)
    row = applied(transition(ROWS["calling"], end, SOON))
    assert row.state.value == status.value
    assert (row.settled_at, row.pointer, row.error_code, row.repaid) == (SOON, POINTER, "code", 1)
    assert row.claimed_until is None
    assert not row.active


def test_a_second_line_about_the_same_attempt_is_not_a_repetition() -> None:
    """The provider may answer one custom_id twice: the first line read is the answer."""
    row = applied(transition(ROWS["staged"], settle("p_1", pointer=POINTER), NOW))
    second = settle("p_1", pointer=POINTER.model_copy(update={"offset": 99}))
    assert transition(row, second, NOW) == Decision(Verdict.STALE, row)


def test_a_cancel_before_the_first_claim_waits_for_the_task_whatever_its_content() -> None:
    row = applied(transition(None, CANCEL, NOW))
    assert (row.state, row.tenant, row.task_id, row.active) == (TaskState.TOMBSTONE, "acme", "t_1", False)
    met = transition(row, claim_part(OTHER, "p_1"), LATER)
    assert met.verdict is Verdict.CANCELLED
    assert met.row is not None
    assert (met.row.state, met.row.content_hash, met.row.attempt) == (TaskState.CANCELLED, "other", 0)
    assert (met.row.settled_at, met.row.error_code) == (LATER, "cancelled")
    assert met.row.document is not None
    assert met.row.document.record.status is Status.CANCELLED
    assert met.row.document.letter is None


def test_a_feeder_that_meets_a_tombstone_sends_its_task_to_its_end() -> None:
    row = applied(transition(ROWS["tomb"], Accept(TASK), LATER))
    assert (row.state, row.content_hash, row.accepted_at) == (TaskState.CANCELLING, "hash-1", TASK.accepted_at)
    assert transition(row, CALL, LATER).verdict is Verdict.CANCELLED


def test_a_call_in_flight_that_is_cancelled_counts_as_paid_and_brings_nothing() -> None:
    row = applied(transition(ROWS["calling"], CANCEL, NOW))
    assert (row.state, row.repaid, row.holder, row.claimed_until) == (TaskState.CANCELLING, 1, None, None)
    late = transition(row, settle("call-1"), NOW)
    assert late == Decision(Verdict.STALE, row)
    ended = transition(row, CALL, LATER)
    assert ended.verdict is Verdict.CANCELLED
    assert ended.row is not None
    assert (ended.row.repaid, ended.row.attempt) == (1, 1)
    assert transition(ended.row, CALL, LATER) == Decision(Verdict.CANCELLED, ended.row)
    assert transition(ended.row, settle("call-1"), LATER) == Decision(Verdict.STALE, ended.row)


def test_a_staged_task_is_cancelled_with_its_record_and_not_without_the_task() -> None:
    assert transition(ROWS["staged"], CANCEL, NOW) == Decision(Verdict.STALE, ROWS["staged"])
    row = applied(transition(ROWS["staged"], STAGED_CANCEL, NOW))
    assert (row.state, row.repaid, row.holder) == (TaskState.CANCELLED, 0, "p_1")
    assert row.document is not None
    assert (row.document.record.attempts, row.document.record.lane) == (1, None)


def test_an_answer_to_a_cancelled_line_is_counted_once_and_settles_nothing() -> None:
    late = transition(ROWS["cancelled"], settle("p_1", pointer=POINTER), LATER)
    assert late.verdict is Verdict.IN_VAIN
    assert late.changed
    assert late.row is not None
    assert (late.row.state, late.row.repaid, late.row.pointer) == (TaskState.CANCELLED, 1, None)
    assert late.row.holder == "p_1", "whoever repeats the cancel finds the task by it"
    assert transition(late.row, settle("p_1", pointer=POINTER), LATER) == Decision(Verdict.IN_VAIN, late.row)


def test_a_redrive_begins_the_next_generation_and_keeps_what_was_spent() -> None:
    struck = Release("call-1", 1, NOW, STRIKES, unsure=1)
    dead = after(CALL, struck, claim_call(TASK, "call-2", SOON), settle("call-2", attempt=2, status=Status.DEAD))
    row = applied(transition(dead, Redrive(REVIVED, SPENT), LATER))
    assert (row.state, row.generation, row.attempt, row.repaid) == (TaskState.QUEUED, 1, 2, 1)
    assert row.strikes == Strikes(spent_usd=SPENT)
    assert (row.accepted_at, row.deadline_at) == (REVIVED.accepted_at, REVIVED.deadline_at)
    assert (row.settled_at, row.error_code) == (dead.settled_at, dead.error_code), "found among the dead as before"
    assert (row.lane, row.holder) == (None, None)


def test_a_redriven_row_keeps_the_old_record_until_its_message_is_met() -> None:
    row = applied(transition(ROWS["dead"], Redrive(REVIVED, SPENT), NOW))
    assert row.redriving
    assert row.pointer == POINTER
    claimed = applied(transition(row, claim_call(REVIVED, "call-3", LATER), NOW))
    assert (claimed.attempt, claimed.pointer, claimed.redriving) == (2, None, False)
    assert (claimed.settled_at, claimed.error_code) == (None, None)
    assert transition(claimed, Redrive(REVIVED, SPENT), NOW).verdict is Verdict.STALE


def test_a_delivery_of_an_earlier_life_claims_nothing() -> None:
    assert transition(ROWS["revived"], CALL, LATER).verdict is Verdict.REPEATED
    assert transition(ROWS["revived"], claim_part(ELSEWHERE, "p_2"), LATER).verdict is Verdict.DUPLICATE


def test_a_late_answer_of_an_earlier_life_settles_nothing() -> None:
    claimed = applied(transition(ROWS["revived"], claim_call(REVIVED, "call-3", LATER), NOW))
    assert transition(ROWS["revived"], settle("call-1"), NOW).verdict is Verdict.STALE
    assert transition(claimed, settle("call-1"), NOW).verdict is Verdict.STALE


def test_a_task_dies_and_is_redriven_as_often_as_the_operator_likes() -> None:
    claimed = applied(transition(ROWS["revived"], claim_call(REVIVED, "call-3", LATER), NOW))
    dead = applied(transition(claimed, settle("call-3", attempt=2, status=Status.DEAD), NOW))
    assert transition(dead, Redrive(REVIVED, SPENT), NOW).verdict is Verdict.STALE
    row = applied(transition(dead, Redrive(task(generation=2), SPENT), NOW))
    assert (row.generation, row.attempt) == (2, 2)


events = st.sampled_from(sorted(EVENTS)).map(EVENTS.__getitem__)
steps = st.tuples(events, st.sampled_from((0, 30, 60, 3600)).map(lambda seconds: timedelta(seconds=seconds)))


@given(st.lists(steps, max_size=30))
def test_whatever_happens_a_row_only_moves_forward(history: list[tuple[TaskEvent, timedelta]]) -> None:
    row: TaskRow | None = None
    now = NOW
    for event, passed in history:
        now += passed
        decision = transition(row, event, now)
        if row is None:
            row = decision.row
            continue
        assert decision.row is not None
        given_back = isinstance(event, Choose) and event.onward is Onward.BATCH
        assert decision.row.attempt - row.attempt in ((0, -1) if given_back else (0, 1))
        assert decision.row.repaid >= row.repaid
        assert decision.row.content_hash == row.content_hash or row.state is TaskState.TOMBSTONE
        assert decision.row.rev == row.rev
        assert decision.changed == (decision.row != row)
        redriven = row.state is TaskState.DEAD and decision.row.generation == row.generation + 1
        if row.state in SETTLED and not redriven:
            assert decision.row.state is row.state
            assert decision.row.document == row.document
            assert decision.row is row or decision.verdict is Verdict.IN_VAIN
        assert redriven or decision.row.generation == row.generation or row.state is TaskState.TOMBSTONE
        row = decision.row
        held = row.state in (TaskState.CALLING, TaskState.STAGED, TaskState.ANSWERED, TaskState.DEAD)
        assert (row.claimed_until is not None) == (row.state is TaskState.CALLING)
        assert (row.holder is not None) == held or row.state is TaskState.CANCELLED
        assert row.document is None or row.state in SETTLED or row.redriving
