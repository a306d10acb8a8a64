"""A task's row and the one function that moves it.

::

    (none) ──Accept──▶ queued ──ClaimCall──▶ calling ──Settle──▶ answered | dead
       │                 ▲  │                  │  └─ ClaimCall after claimed_until: taken over, attempt + 1, repaid + 1
       │                 │  │                  │
       │                 └──┼──── Release ─────┘
       └──ClaimPart─────────┴──▶ staged ──Restage──▶ staged (attempt + 1) ──Settle──▶ answered | dead
                                   └─ Carry: into another part, the same attempt

A claim on no row makes the row: ingest writes no state. Every change is one conditional write on ``rev``, and an event
that is applied twice changes nothing the second time; where its sender goes by it, the verdict is ``REPEATED``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from .lanes import Lane
from .model import Usd, Utc, Value
from .records import Pointer, ResultDocument, Status
from .task import AcceptedTask
from .tiers import Tier


class TaskState(StrEnum):
    QUEUED = "queued"
    CALLING = "calling"
    STAGED = "staged"
    ANSWERED = "answered"
    DEAD = "dead"
    CANCELLED = "cancelled"


SETTLED = frozenset({TaskState.ANSWERED, TaskState.DEAD, TaskState.CANCELLED})


class Strikes(Value):
    """What a task has been through: carried from attempt to attempt, on its row or on its line in a part."""

    failures: int = 0
    """Attempts that used up one of the allowed tries."""
    flex_refusals: int = 0
    """How often the lane that it asked for, flex or priority, would not take it."""
    spent_usd: Usd = Decimal(0)
    """Billed by attempts that did not answer."""
    first_failed_at: Utc | None = None
    last_failed_at: Utc | None = None


class TaskRow(Value):
    """``holder`` is the call or the part that the present attempt belongs to."""

    rev: int = 0
    tenant: str
    task_id: str
    content_hash: str
    origin: str
    tier: Tier
    type: str | None
    model: str
    accepted_at: Utc
    deadline_at: Utc
    state: TaskState
    attempt: int = 0
    generation: int = 0
    repaid: int = 0
    strikes: Strikes = Strikes()
    holder: str | None = None
    claimed_until: Utc | None = None
    not_before: Utc | None = None
    settled_at: Utc | None = None
    lane: Lane | None = None
    error_code: str | None = None
    document: ResultDocument | None = None
    pointer: Pointer | None = None

    @property
    def active(self) -> bool:
        return self.state not in SETTLED


@dataclass(frozen=True, slots=True)
class Accept:
    """A feeder that knows its tasks beforehand (``run``) writes them down before it queues them."""

    task: AcceptedTask


@dataclass(frozen=True, slots=True)
class ClaimCall:
    """Immediately before a real-time call. Nobody else may call before ``until``."""

    task: AcceptedTask
    holder: str
    until: datetime


@dataclass(frozen=True, slots=True)
class ClaimPart:
    """A drained task joins a part whose object is already durable."""

    task: AcceptedTask
    part_id: str


@dataclass(frozen=True, slots=True)
class Restage:
    """From an attempt that failed in a batch into its retry part."""

    attempt: int
    from_parts: frozenset[str]
    part_id: str
    strikes: Strikes


@dataclass(frozen=True, slots=True)
class Carry:
    """From a part whose batch was written before the claim came (a drain that outlived its lease) into another part.

    The attempt has not begun, so it keeps its number.
    """

    from_parts: frozenset[str]
    part_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """A call gives its task back to the queue. ``unsure`` is 1 where the provider may have billed it all the same."""

    holder: str
    attempt: int
    not_before: datetime
    strikes: Strikes
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class Settle:
    """The end. The document is durable in this very write, or already durable where ``pointer`` says.

    ``unsure`` is 1 where the provider may have billed an attempt that brought no answer.
    """

    holders: frozenset[str]
    attempt: int
    status: Status
    lane: Lane | None
    error_code: str | None = None
    document: ResultDocument | None = None
    pointer: Pointer | None = None
    unsure: int = 0


TaskEvent = Accept | ClaimCall | ClaimPart | Restage | Carry | Release | Settle


class Verdict(StrEnum):
    APPLIED = "applied"
    REPEATED = "repeated"
    """This event, or this delivery of the task, took effect before: go on as if it had just now."""
    DUPLICATE = "duplicate"
    """Same content from another delivery, and the task is safe: drop it, count it."""
    CONFLICT = "conflict"
    """Same id, other content: refuse it; the first task is untouched."""
    BUSY = "busy"
    """A call in flight holds the task: come back when ``row.claimed_until`` has passed."""
    NOT_YET = "not_yet"
    """The task waits for its retry: come back at ``row.not_before``."""
    STALE = "stale"
    """The event speaks of an attempt that is no longer the task's: drop it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``row`` is the row as it is after the decision; it is to be written only where ``changed``."""

    verdict: Verdict
    row: TaskRow | None
    changed: bool = False


def transition(row: TaskRow | None, event: TaskEvent, now: datetime) -> Decision:
    """What ``event`` does to ``row`` at ``now``. Total: every state takes every event."""
    match event:
        case Accept(task):
            return _accept(row, task)
        case ClaimCall(task, holder, until):
            return _claim(row, task, now, state=TaskState.CALLING, holder=holder, until=until)
        case ClaimPart(task, part_id):
            return _claim(row, task, now, state=TaskState.STAGED, holder=part_id, until=None)
        case Restage():
            return _restage(row, event)
        case Carry():
            return _carry(row, event)
        case Release():
            return _release(row, event)
        case Settle():
            return _settle(row, event, now)
        case _:
            assert_never(event)


def born(task: AcceptedTask) -> TaskRow:
    """The row of a task that nobody has touched yet."""
    return TaskRow(
        tenant=task.tenant,
        task_id=task.task_id,
        content_hash=task.content_hash,
        origin=task.origin,
        tier=task.tier,
        type=task.type,
        model=task.model,
        accepted_at=task.accepted_at,
        deadline_at=task.deadline_at,
        state=TaskState.QUEUED,
    )


def _again(row: TaskRow, task: AcceptedTask) -> Decision:
    """The task is safe; say whether this delivery is the one that brought it."""
    return Decision(Verdict.REPEATED if row.origin == task.origin else Verdict.DUPLICATE, row)


def _accept(row: TaskRow | None, task: AcceptedTask) -> Decision:
    if row is None:
        return Decision(Verdict.APPLIED, born(task), changed=True)
    if row.content_hash != task.content_hash:
        return Decision(Verdict.CONFLICT, row)
    return _again(row, task)


def _claim(
    row: TaskRow | None, task: AcceptedTask, now: datetime, *, state: TaskState, holder: str, until: datetime | None
) -> Decision:
    if row is None:
        row = born(task)
    elif row.content_hash != task.content_hash:
        return Decision(Verdict.CONFLICT, row)
    taken = {"state": state, "holder": holder, "claimed_until": until, "attempt": row.attempt + 1, "not_before": None}
    match row.state:
        case TaskState.QUEUED:
            if row.not_before is not None and row.not_before > now:
                return Decision(Verdict.NOT_YET, row)
            return Decision(Verdict.APPLIED, row.model_copy(update=taken), changed=True)
        case TaskState.CALLING:
            if row.claimed_until is not None and row.claimed_until > now:
                return Decision(Verdict.BUSY, row)
            # The caller died between its claim and its settling write; the provider may have answered it.
            return Decision(Verdict.APPLIED, row.model_copy(update=taken | {"repaid": row.repaid + 1}), changed=True)
        case TaskState.STAGED | TaskState.ANSWERED | TaskState.DEAD | TaskState.CANCELLED:
            return _again(row, task)
        case _:
            assert_never(row.state)


def _restage(row: TaskRow | None, event: Restage) -> Decision:
    if row is None or row.state is not TaskState.STAGED:
        return Decision(Verdict.STALE, row)
    if row.holder == event.part_id and row.attempt == event.attempt + 1:
        return Decision(Verdict.REPEATED, row)
    if row.holder not in event.from_parts or row.attempt != event.attempt:
        return Decision(Verdict.STALE, row)
    moved = {"holder": event.part_id, "attempt": event.attempt + 1, "strikes": event.strikes}
    return Decision(Verdict.APPLIED, row.model_copy(update=moved), changed=True)


def _carry(row: TaskRow | None, event: Carry) -> Decision:
    if row is None or row.state is not TaskState.STAGED:
        return Decision(Verdict.STALE, row)
    if row.holder == event.part_id:
        return Decision(Verdict.REPEATED, row)
    if row.holder not in event.from_parts:
        return Decision(Verdict.STALE, row)
    return Decision(Verdict.APPLIED, row.model_copy(update={"holder": event.part_id}), changed=True)


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
    }
    return Decision(Verdict.APPLIED, row.model_copy(update=ended), changed=True)
