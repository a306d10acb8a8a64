"""A task's row and the one function that moves it.

::

    (none) ──Accept──▶ queued ──ClaimCall──▶ calling ──Settle──▶ answered | dead
       │                 ▲  │                  │  └─ ClaimCall after claimed_until: taken over, attempt + 1, repaid + 1
       │                 │  │                  │
       │                 └──┼──── Release ─────┤  └─ Choose: the model, and the call follows
       │                 └──┼─ Choose, for LOW ┘
       └──ClaimPart─────────┴──▶ staged ──Restage──▶ staged (attempt + 1) ──Settle──▶ answered | dead
                                   ├─ Carry: into another part, the same attempt
                                   └─ Free: back to ``queued``, for a faster lane

    (none) ──Cancel──▶ tombstone ──Accept──▶ cancelling ──claim──▶ cancelled
    queued, calling ──Cancel──▶ cancelling          staged ──Cancel──▶ cancelled          dead ──Redrive──▶ queued

A record is written by whoever has the task itself: any message with it (a claim that meets ``tombstone`` or
``cancelling``) or its part (``Cancel`` of a staged task brings it). A redrive begins the next generation; it replaces
the record.

``origin`` stays that of the delivery that made the row, whichever delivery claims the task later. So each delivery with
another origin is a duplicate, and is counted as one, even where it brings the answer.

A claim on no row makes the row: ingest writes no state. Every change is one conditional write on ``rev``, and an event
that is applied twice changes nothing the second time; where its sender goes by it, the verdict is ``REPEATED``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from .cancellations import CANCELLED_CODE, cancelled, fit_for_a_row
from .records import Status
from .task import AcceptedTask
from .task_events import (
    Accept,
    Cancel,
    Carry,
    Choose,
    ClaimCall,
    ClaimPart,
    Decision,
    Free,
    Onward,
    Redrive,
    Release,
    Restage,
    Settle,
    TaskEvent,
    Verdict,
)
from .task_rows import SETTLED, ModelChoice, Strikes, TaskRow, TaskState, born
from .tiers import Tier

__all__ = [
    "SETTLED",
    "Accept",
    "Cancel",
    "Carry",
    "Choose",
    "ClaimCall",
    "ClaimPart",
    "Decision",
    "Free",
    "ModelChoice",
    "Onward",
    "Redrive",
    "Release",
    "Restage",
    "Settle",
    "Strikes",
    "TaskEvent",
    "TaskRow",
    "TaskState",
    "Verdict",
    "born",
    "transition",
]


_NO_RECORD: dict[str, object] = {"document": None, "pointer": None, "error_code": None, "settled_at": None}
"""Of a redriven task the row keeps the old record until somebody takes it up."""


def transition(row: TaskRow | None, event: TaskEvent, now: datetime) -> Decision:
    """What ``event`` does to ``row`` at ``now``. Total: every state takes every event."""
    decision = _decide(row, event, now)
    return replace(decision, before=row) if decision.changed else decision


def _decide(row: TaskRow | None, event: TaskEvent, now: datetime) -> Decision:
    match event:
        case Accept(task):
            return _accept(row, task)
        case ClaimCall(task, holder, until):
            return _claim(row, task, now, state=TaskState.CALLING, holder=holder, until=until)
        case ClaimPart(task, part_id):
            return _claim(row, task, now, state=TaskState.STAGED, holder=part_id, until=None)
        case Choose():
            return _choose(row, event)
        case Restage():
            return _restage(row, event)
        case Carry():
            return _carry(row, event)
        case Free():
            return _free(row, event)
        case Release():
            return _release(row, event)
        case Settle():
            return _settle(row, event, now)
        case Cancel():
            return _cancel(row, event, now)
        case Redrive():
            return _redrive(row, event)
        case _:
            assert_never(event)


def _again(row: TaskRow, task: AcceptedTask) -> Decision:
    """The task is safe; say whether this delivery is the one that brought it."""
    return Decision(Verdict.REPEATED if row.origin == task.origin else Verdict.DUPLICATE, row)


def _accept(row: TaskRow | None, task: AcceptedTask) -> Decision:
    if row is None:
        return Decision(Verdict.APPLIED, born(task), changed=True)
    if row.state is TaskState.TOMBSTONE:
        return Decision(Verdict.APPLIED, _met(row, task), changed=True)
    if row.content_hash != task.content_hash:
        return Decision(Verdict.CONFLICT, row)
    return _again(row, task)


def _claim(
    row: TaskRow | None, task: AcceptedTask, now: datetime, *, state: TaskState, holder: str, until: datetime | None
) -> Decision:
    if row is None:
        row = born(task)
    elif row.state is TaskState.TOMBSTONE:
        row = _met(row, task)
    elif row.content_hash != task.content_hash:
        return Decision(Verdict.CONFLICT, row)
    elif task.generation < row.generation:
        return _again(row, task)
    taken: dict[str, object] = {
        "state": state,
        "holder": holder,
        "claimed_at": now,
        "claimed_until": until,
        "attempt": row.attempt + 1,
        "not_before": None,
        "token_digest": task.token_digest,
        **_NO_RECORD,
    }
    match row.state:
        case TaskState.QUEUED if row.rescued_from is not None and state is TaskState.STAGED:
            # Its message is on its way to a faster lane, or will be when whoever freed it repeats the step.
            return _again(row, task)
        case TaskState.QUEUED:
            if row.not_before is not None and row.not_before > now:
                return Decision(Verdict.NOT_YET, row)
            return Decision(Verdict.APPLIED, row.model_copy(update=taken), changed=True)
        case TaskState.CALLING:
            if row.claimed_until is not None and row.claimed_until > now:
                return Decision(Verdict.BUSY, row)
            # The caller died between its claim and its settling write; the provider may have answered it.
            return Decision(Verdict.APPLIED, row.model_copy(update=taken | {"repaid": row.repaid + 1}), changed=True)
        case TaskState.STAGED | TaskState.ANSWERED | TaskState.DEAD:
            return _again(row, task)
        case TaskState.CANCELLED if row.pointer is not None:
            # Its batch was cancelled around it, and its collection tells of it.
            return _again(row, task)
        case TaskState.CANCELLING:
            # No other delivery need be left: a task that was freed from a part has only the part's.
            return Decision(Verdict.CANCELLED, _cancelled(row, task, now), changed=True)
        case TaskState.CANCELLED:
            # Whichever delivery wrote the record may have died before it was told.
            return Decision(Verdict.CANCELLED, row)
        case TaskState.TOMBSTONE:
            raise AssertionError("a tombstone that is met is cancelling")
        case _:
            assert_never(row.state)


def _choose(row: TaskRow | None, event: Choose) -> Decision:
    if row is None:
        return Decision(Verdict.STALE, row)
    paid = {"spent_usd": row.strikes.spent_usd + event.spent_usd, "unpriced": row.strikes.unpriced or event.unpriced}
    chosen: dict[str, object] = {
        "choice": event.choice,
        "model": event.choice.model,
        "strikes": row.strikes.model_copy(update=paid),
        "repaid": row.repaid + event.unsure,
    }
    held = row.state is TaskState.CALLING and (row.holder, row.attempt) == (event.holder, event.attempt)
    match event.onward:
        case Onward.CALL:
            if not held:
                return Decision(Verdict.STALE, row)
            if row.choice == event.choice:
                return Decision(Verdict.REPEATED, row)
            return Decision(Verdict.APPLIED, row.model_copy(update=chosen), changed=True)
        case Onward.BATCH:
            if not held:
                # Sent once more, it is a repeated delivery; not sent, it would be lost.
                waits = row.state is TaskState.QUEUED and row.choice == event.choice
                return Decision(Verdict.REPEATED if waits else Verdict.STALE, row)
            freed = {"state": TaskState.QUEUED, "holder": None, "claimed_until": None, "attempt": row.attempt - 1}
            return Decision(Verdict.APPLIED, row.model_copy(update=chosen | freed), changed=True)
        case _:
            assert_never(event.onward)


def _restage(row: TaskRow | None, event: Restage) -> Decision:
    paid = event.unsure or event.attempt in event.strikes.billed
    if row is not None and paid and _was_cancelled(row, event.attempt, event.from_parts):
        return _in_vain(row)
    if row is None or row.state is not TaskState.STAGED:
        return Decision(Verdict.STALE, row)
    if row.holder == event.part_id and row.attempt == event.attempt + 1:
        return Decision(Verdict.REPEATED, row)
    if row.holder not in event.from_parts or row.attempt != event.attempt:
        return Decision(Verdict.STALE, row)
    moved = {
        "holder": event.part_id,
        "attempt": event.attempt + 1,
        "strikes": event.strikes.after(row.strikes),
        "repaid": row.repaid + event.unsure,
    }
    return Decision(Verdict.APPLIED, row.model_copy(update=moved), changed=True)


def _carry(row: TaskRow | None, event: Carry) -> Decision:
    if row is None or row.state is not TaskState.STAGED:
        return Decision(Verdict.STALE, row)
    if row.holder == event.part_id:
        return Decision(Verdict.REPEATED, row)
    if row.holder not in event.from_parts:
        return Decision(Verdict.STALE, row)
    digest = row.token_digest if event.task is None else event.task.token_digest
    carried = row.model_copy(update={"holder": event.part_id, "token_digest": digest})
    return Decision(Verdict.APPLIED, carried, changed=True)


def _free(row: TaskRow | None, event: Free) -> Decision:
    if row is None or (event.attempt is not None and row.attempt != event.attempt):
        return Decision(Verdict.STALE, row)
    paid = event.unsure or (event.strikes is not None and row.attempt in event.strikes.billed)
    if paid and _was_cancelled(row, row.attempt, event.from_parts):
        return _in_vain(row)
    if row.state in (TaskState.QUEUED, TaskState.CANCELLING) and row.rescued_from == event.rescued_from:
        # Cancelled meanwhile, it waits for the message all the same: that writes its record.
        return Decision(Verdict.REPEATED, row)
    if row.state is not TaskState.STAGED or row.holder not in event.from_parts:
        return Decision(Verdict.STALE, row)
    freed = {
        "state": TaskState.QUEUED,
        "holder": None,
        "rescued_from": event.rescued_from,
        "strikes": row.strikes if event.strikes is None else event.strikes.after(row.strikes),
        "repaid": row.repaid + event.unsure,
    }
    return Decision(Verdict.APPLIED, row.model_copy(update=freed), changed=True)


def _release(row: TaskRow | None, event: Release) -> Decision:
    if row is None or row.state is not TaskState.CALLING or (row.holder, row.attempt) != (event.holder, event.attempt):
        return Decision(Verdict.STALE, row)
    freed = {
        "state": TaskState.QUEUED,
        "holder": None,
        "claimed_until": None,
        "not_before": event.not_before,
        "strikes": event.strikes,
        "repaid": row.repaid + event.unsure,
    }
    return Decision(Verdict.APPLIED, row.model_copy(update=freed), changed=True)


def _settle(row: TaskRow | None, event: Settle, now: datetime) -> Decision:
    if row is None:
        return Decision(Verdict.STALE, row)
    failed = event.strikes is not None and event.attempt in event.strikes.billed
    billed = event.status is Status.ANSWERED or event.unsure or failed
    if billed and _was_cancelled(row, event.attempt, event.holders):
        return _in_vain(row)
    if row.state in SETTLED:
        before = (row.attempt, row.state.value, row.pointer)
        same = before == (event.attempt, event.status.value, event.pointer) and row.holder in event.holders
        return Decision(Verdict.REPEATED if same else Verdict.STALE, row)
    if row.attempt != event.attempt or row.holder not in event.holders:
        return Decision(Verdict.STALE, row)
    ended = {
        "state": TaskState(event.status.value),
        "claimed_until": None,
        "settled_at": now,
        "lane": event.lane,
        "error_code": event.error_code,
        "document": event.document,
        "pointer": event.pointer,
        "repaid": row.repaid + event.unsure,
        "strikes": row.strikes if event.strikes is None else row.strikes.paying(event.strikes),
    }
    return Decision(Verdict.APPLIED, row.model_copy(update=ended), changed=True)


def _was_cancelled(row: TaskRow, attempt: int, holders: frozenset[str]) -> bool:
    """In its part, while this very attempt was under way.

    A record behind a pointer was written by the collection of a cancelled batch: nothing can come after that.
    """
    return row.state is TaskState.CANCELLED and row.pointer is None and row.attempt == attempt and row.holder in holders


def _in_vain(row: TaskRow) -> Decision:
    """Billed, or perhaps billed, and nobody gets it: counted once. ``holder`` stays: a cancel that was cut off finds
    the task by it, and tells its end."""
    if row.in_vain:
        return Decision(Verdict.IN_VAIN, row)
    counted = row.model_copy(update={"in_vain": True, "repaid": row.repaid + 1})
    return Decision(Verdict.IN_VAIN, counted, changed=True)


def _cancel(row: TaskRow | None, event: Cancel, now: datetime) -> Decision:
    if row is None:
        return Decision(Verdict.APPLIED, _tombstone(event, now), changed=True)
    match row.state:
        case TaskState.QUEUED | TaskState.CALLING:
            # Whether the call in flight is billed nobody can tell now: its answer will find no claim.
            in_flight = int(row.state is TaskState.CALLING)
            left: dict[str, object] = {"holder": None, "claimed_until": None, "not_before": None}
            changes = left | _NO_RECORD | {"state": TaskState.CANCELLING, "repaid": row.repaid + in_flight}
            return Decision(Verdict.APPLIED, row.model_copy(update=changes), changed=True)
        case TaskState.STAGED if event.task is not None:
            return Decision(Verdict.APPLIED, _cancelled(row, event.task, now), changed=True)
        case TaskState.TOMBSTONE | TaskState.CANCELLING | TaskState.CANCELLED:
            return Decision(Verdict.REPEATED, row)
        case TaskState.STAGED | TaskState.ANSWERED | TaskState.DEAD:
            return Decision(Verdict.STALE, row)
        case _:
            assert_never(row.state)


def _tombstone(event: Cancel, now: datetime) -> TaskRow:
    """What is not known of the task is left blank: no content, no delivery, no time."""
    return TaskRow(
        tenant=event.tenant,
        task_id=event.task_id,
        content_hash="",
        origin="",
        tier=Tier.NORMAL,
        type=None,
        model="",
        accepted_at=now,
        deadline_at=now,
        state=TaskState.TOMBSTONE,
    )


def _met(tombstone: TaskRow, task: AcceptedTask) -> TaskRow:
    """The tombstone is this task's, whatever its content: the first that comes."""
    return born(task).model_copy(update={"state": TaskState.CANCELLING, "rev": tombstone.rev})


def _cancelled(row: TaskRow, task: AcceptedTask, now: datetime) -> TaskRow:
    document = fit_for_a_row(cancelled(task, attempts=row.attempt, spent_usd=row.strikes.total_usd, now=now))
    ended = {"state": TaskState.CANCELLED, "settled_at": now, "error_code": CANCELLED_CODE, "document": document}
    return row.model_copy(update=ended)


def _redrive(row: TaskRow | None, event: Redrive) -> Decision:
    task = event.task
    if row is None or row.content_hash != task.content_hash:
        return Decision(Verdict.STALE, row)
    if row.redriving and row.generation == task.generation:
        return Decision(Verdict.REPEATED, row)
    if row.state is not TaskState.DEAD or row.generation + 1 != task.generation:
        return Decision(Verdict.STALE, row)
    kept = {
        "rev": row.rev,
        "attempt": row.attempt,
        "repaid": row.repaid,
        "strikes": Strikes(spent_usd=event.spent_usd, billed=row.strikes.billed, unpriced=row.strikes.unpriced),
        "choice": row.choice,
        "model": row.choice.model if row.choice is not None and task.candidates is not None else task.model,
        # How and when it died stays with the old record, so that it is found among the dead until it is taken up.
        "error_code": row.error_code,
        "settled_at": row.settled_at,
        "document": row.document,
        "pointer": row.pointer,
    }
    return Decision(Verdict.APPLIED, born(task).model_copy(update=kept), changed=True)
