"""Cancel: tasks, or a batch, at an operator's word and in any state.

A task's record is written by whoever has the task itself. A staged one stands in its part, which is read here; any
other is on its way in a message, whose claim will meet the row. A batch is told in its row alone: the
poller tells the provider, as often as it takes, and collects what the batch has answered until then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from lowtide.core.batches import BatchDecision, BatchVerdict, Stop, Unanswered
from lowtide.core.errors import Contended, NewerSchema, NotFound
from lowtide.core.parts import PartLine, part_object
from lowtide.core.task import AcceptedTask, task_key
from lowtide.core.tasks import Cancel, TaskEvent, TaskRow, TaskState
from lowtide.ports import Change, System

from .deliver import Delivery, deliver
from .newer import rows_or_newer
from .redrive import redrive

Name = tuple[str, str]
"""(tenant, task_id)."""

LOOKS = 5
"""A task that is moved into another part between the look at its row and the write is looked at again."""


class CancelOutcome(StrEnum):
    CANCELLED = "cancelled"
    """It has its record."""
    CANCELLING = "cancelling"
    """Nobody will work on it; its record is written when its message comes, or the first message with this id."""
    ENDED = "ended"
    """It had ended before."""
    NEWER = "newer"
    """A newer release wrote its row, which this one must not touch."""


def cancel_tasks(system: System, names: Sequence[Name]) -> list[CancelOutcome]:
    """In the order of ``names``. Safe to repeat, and meant to be where it was cut off: what a record owes to ledger and
    receivers is then delivered again. Raises Contended where a task would not hold still."""
    outcomes: dict[Name, CancelOutcome] = {}
    for _ in range(LOOKS):
        outcomes |= _cancel(system, [name for name in dict.fromkeys(names) if name not in outcomes])
        if len(outcomes) == len(set(names)):
            return [outcomes[name] for name in names]
    moving = next(task_id for tenant, task_id in names if (tenant, task_id) not in outcomes)
    raise Contended(f"task {moving!r} was moved between parts under {LOOKS} tries to cancel it; come back later")


def stop_batch(system: System, batch_id: str, unanswered: Unanswered) -> BatchDecision:
    """``batch_id`` is ours. What the batch has answered when it ends is kept; ``unanswered`` says what becomes of the
    rest. REFUSED where there is no such batch (``row`` is None), or it has ended already. The order stands in the row:
    the poller tells the provider at its next turn, so that who gives it needs no provider's key."""
    [decision] = system.batches.apply([Change(batch_id, Stop(unanswered))], system.clock.now())
    if decision.verdict is not BatchVerdict.REFUSED:
        system.metrics.log("batch_stopped", batch_id=batch_id, unanswered=unanswered.value)
    return decision


def _cancel(system: System, names: Sequence[Name]) -> dict[Name, CancelOutcome]:
    """Those that could be decided; a staged task whose part was not the one read is left out."""
    rows, outcomes = _rows(system, names)
    if unsent := [name for name, row in rows.items() if row is not None and row.redriving]:
        # Its message may never have been sent, and is what the record will be written from.
        redrive(system, unsent)
        rows, outcomes = _rows(system, names)
    tasks = _in_parts(system, [row for row in rows.values() if row is not None])
    changes: list[Change[TaskRow, TaskEvent]] = []
    for name, row in rows.items():
        key = task_key(*name)
        changes.append(Change(key, Cancel(*name, tasks.get(key)), row))
    ended: list[tuple[AcceptedTask, TaskRow]] = []
    for name, decision in zip(rows, system.tasks.apply(changes, system.clock.now()), strict=True):
        if decision.row is None:
            raise AssertionError("a cancel of no row makes a tombstone")
        if (outcome := _outcome(decision.row)) is not None:
            outcomes[name] = outcome
        if decision.row.state is TaskState.CANCELLED and (task := tasks.get(decision.row.key)) is not None:
            ended.append((task, decision.row))
    deliver(system, None, [Delivery.settled(task, row) for task, row in ended])
    return outcomes


def _rows(system: System, names: Sequence[Name]) -> tuple[dict[Name, TaskRow | None], dict[Name, CancelOutcome]]:
    """Return the rows that this release reads, and the outcome of each task whose row it does not."""
    rows: dict[Name, TaskRow | None] = {}
    left: dict[Name, CancelOutcome] = {}
    found = rows_or_newer(system.tasks, [task_key(*name) for name in names])
    for name, row in zip(names, found, strict=True):
        if isinstance(row, NewerSchema):
            left[name] = CancelOutcome.NEWER
        else:
            rows[name] = row
    return rows, left


def _outcome(row: TaskRow) -> CancelOutcome | None:
    match row.state:
        case TaskState.CANCELLED:
            return CancelOutcome.CANCELLED
        case TaskState.TOMBSTONE | TaskState.CANCELLING:
            return CancelOutcome.CANCELLING
        case TaskState.ANSWERED | TaskState.DEAD:
            return CancelOutcome.ENDED
        case TaskState.QUEUED | TaskState.CALLING | TaskState.STAGED:
            return None


def _in_parts(system: System, rows: Sequence[TaskRow]) -> dict[str, AcceptedTask]:
    """By key, the tasks that stand in parts: staged ones, and cancelled ones whose record may be undelivered yet."""
    wanted: dict[str, dict[str, TaskRow]] = defaultdict(dict)
    for row in rows:
        if row.holder is not None and row.state in (TaskState.STAGED, TaskState.CANCELLED):
            wanted[row.holder][row.key] = row
    return {task.key: task for part_id, by_key in wanted.items() for task in _of_part(system, part_id, by_key)}


def _of_part(system: System, part_id: str, rows: Mapping[str, TaskRow]) -> Iterator[AcceptedTask]:
    # By the name of its object: a retry part's tasks are claimed for it before it has a row.
    try:
        for raw in system.objects.lines(part_object(part_id)):
            task = PartLine.model_validate_json(raw).task
            if task.key in rows and rows[task.key].speaks_of(task):
                yield task
    except NotFound:
        # A part of long ago. Whoever is staged has a part that is read again at the next look.
        return
