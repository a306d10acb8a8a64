"""Rescue: work that a batch would bring too late, out of it and onto a faster lane.

A slow batch is cancelled at the provider, intent first; its partial output is collected like any other, and only what
it left unanswered is freed. A part whose tasks could not wait for another batch is taken out of batching before one
takes it. A task is freed by a conditional write on its row first, and its message is sent after: whoever repeats the
step sends again for all that no call has claimed yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from lowtide.core.batches import BatchRow, ProviderBatch, ProviderStatus
from lowtide.core.batches import Rescue as RescueBatch
from lowtide.core.holds import InForce
from lowtide.core.parts import RESCUED, Finish, Open, PartLine, PartRow, PartState, PartVerdict
from lowtide.core.parts import Rescue as RescuePart
from lowtide.core.portions import portions
from lowtide.core.rescues import near, rescue_due, think_of_rescue_at
from lowtide.core.tasks import Carry, Free, TaskEvent, TaskRow, Verdict
from lowtide.core.weights import weigh
from lowtide.ports import BatchApi, Change, System

from .apart import apart
from .carry import send_tasks
from .held import without_held
from .in_vain import count_in_vain
from .lease import LeasedBatch
from .outlook import Outlook, margins_of
from .part_file import READ_BYTES, READ_ROWS, PartFile
from .submission_gate import account_refused
from .time_left import past

NEAR_LOOK_S = 60.0
"""The longest wait between two looks at a batch whose deadline is near."""

TOOK_EFFECT = frozenset({Verdict.APPLIED, Verdict.REPEATED})


@dataclass(frozen=True, slots=True)
class Freed:
    """A line that goes to a faster lane. ``size``: its bytes."""

    size: int
    line: PartLine
    event: Free


def free(system: System, freed: Iterable[Freed], why: str) -> int:
    """Each task off its part, then onto NORMAL's queue; returns how many were. All of it may be repeated.

    NORMAL and not HIGH, however near the deadline: HIGH's functions do not live as long as such a call may take.
    """
    count = 0
    for portion in portions(freed, lambda each: each.size, most=READ_ROWS, most_bytes=READ_BYTES):
        changes: list[Change[TaskRow, TaskEvent]] = [Change(each.line.task.key, each.event) for each in portion]
        decisions = system.tasks.apply(changes, system.clock.now())
        count_in_vain(system, decisions)
        tasks = [
            each.line.task.model_copy(update={"batchable": False, "route": f"{each.line.task.route}; {why}"})
            for each, decision in zip(portion, decisions, strict=True)
            if decision.verdict in TOOK_EFFECT
        ]
        send_tasks(system, tasks)
        count += len(tasks)
    return count


async def cancel_if_due(system: System, batch: LeasedBatch, api: BatchApi, seen: ProviderBatch) -> None:
    """Looks at what a running batch is to be cancelled for: an operator, or its deadline. Repeated until the batch says
    that it is being cancelled."""
    row, now = batch.row, system.clock.now()
    if not row.called_off:
        margins = margins_of(system)
        # Most looks end here, and cost no read.
        if not near(row, now, margins) or account_refused(system, row.lot.provider):
            return
        due = without_held(system, row)
        if due is None or not rescue_due(due, now, Outlook(system).eta(row.lot, row.requests), margins):
            return
        if not call_off(system, batch):
            return
    if seen.status is not ProviderStatus.CANCELLING:
        await api.cancel(seen.id)


def too_late(system: System, row: BatchRow) -> bool:
    """Of a batch that is not running yet: by the time at which its rescue would begin, it is not worth beginning."""
    now, margins = system.clock.now(), margins_of(system)
    if row.called_off or not near(row, now, margins) or account_refused(system, row.lot.provider):
        return False
    due = without_held(system, row)
    return due is not None and near(due, now, margins)


def call_off(system: System, batch: LeasedBatch) -> bool:
    """The intent, for whoever takes the batch further to go by. False where another took the lease."""
    if not batch.apply(RescueBatch(batch.owner)):
        return False
    row = batch.row
    system.metrics.count("batches_rescued")
    system.metrics.log(
        "batch_rescued",
        batch_id=row.batch_id,
        state=row.state.value,
        requests=row.requests,
        due_at=row.tightest_deadline.isoformat(),
    )
    return True


def longest_wait_s(system: System, row: BatchRow) -> float:
    """Until the next look: soon enough for a rescue, and often while there is a deadline to be met by one."""
    margins, now = margins_of(system), system.clock.now()
    until_near = (think_of_rescue_at(row, margins) - now).total_seconds()
    if until_near <= 0 and now < row.tightest_deadline:
        return NEAR_LOOK_S
    poll_max_s = system.routes.batching.poll_max_s
    return min(poll_max_s, until_near) if until_near > 0 else poll_max_s


def rescue_parts(system: System, *, stop_at: datetime | None = None) -> list[Exception]:
    """Takes the parts out of batching with a task that could not wait for another batch. The near tasks are freed, the
    others get a part of their own. One part that fails keeps nobody waiting; what went wrong is returned. What is not
    reached before ``stop_at`` is the next turn's.
    """
    outlook = Outlook(system)
    errors: list[Exception] = []
    in_force = InForce.of(system.holds.active())
    for part in system.parts.active():
        if past(system, stop_at):
            break
        if in_force.holds(part) and part.batch_id != RESCUED:
            continue  # nothing is spent on it for now, and least of all a premium
        with apart(system, errors, "part_step_failed", part_id=part.part_id):
            _rescue_part(system, outlook, part)
    return errors


def _rescue_part(system: System, outlook: Outlook, part: PartRow) -> None:
    if part.batch_id == RESCUED:
        _divide(system, part)
        return
    now = system.clock.now()
    if part.state is not PartState.CLOSED and not part.ready(now):
        return
    before = outlook.real_time_before(part.lot, part.tasks)
    if part.tightest_deadline >= before or account_refused(system, part.lot.provider):
        return
    [taken] = system.parts.apply([Change(part.part_id, RescuePart(before), part)], now)
    if taken.verdict is not PartVerdict.STALE and taken.row is not None:
        _divide(system, taken.row)


def _divide(system: System, part: PartRow) -> None:
    """A pure function of the part's object and of the moment stamped on its row. Read as often as it is gone through,
    so that a part of any size passes in portions."""
    before = part.rescue_before
    if before is None:
        raise AssertionError("a part that was taken out of batching says before when")
    event = Free(frozenset({part.part_id}), part.part_id)
    due_soon = (
        Freed(size, line, event) for size, line in _lines(system, part, lambda deadline_at: deadline_at < before)
    )
    count = free(system, due_soon, "due too soon for another batch")
    _keep(system, part, lambda deadline_at: deadline_at >= before)
    system.parts.apply([Change(part.part_id, Finish(RESCUED), part)], system.clock.now())
    system.metrics.log("part_rescued", part_id=part.part_id, tasks=count)


def rest_of(part_id: str) -> str:
    """The name of the part that gets what is not freed of this one."""
    return f"k-{sha256(part_id.encode()).hexdigest()[:24]}"


def _keep(system: System, part: PartRow, wanted: Callable[[datetime], bool]) -> None:
    """Durable, then claimed, then visible."""
    part_id = rest_of(part.part_id)
    with PartFile() as file:
        for _, line in _lines(system, part, wanted):
            file.add(line, weigh(line.task))
        if not len(file):
            return
        kept = file.row(part_id, part.lot, part.created_at).model_copy(
            update={
                "state": PartState.CLOSED,
                "not_before": part.not_before,
                "alone": part.alone,
                "tenant": part.tenant,
            }
        )
        file.put(system.objects, kept)
    event, now, claimed = Carry(frozenset({part.part_id}), part_id), system.clock.now(), 0
    lines = _lines(system, part, wanted)
    for portion in portions(lines, lambda each: each[0], most=READ_ROWS, most_bytes=READ_BYTES):
        changes: list[Change[TaskRow, TaskEvent]] = [Change(line.task.key, event) for _, line in portion]
        claimed += sum(decision.verdict in TOOK_EFFECT for decision in system.tasks.apply(changes, now))
    if claimed:
        system.parts.apply([Change(part_id, Open(kept))], now)


def _lines(system: System, part: PartRow, wanted: Callable[[datetime], bool]) -> Iterator[tuple[int, PartLine]]:
    """(bytes, line) of each whose task's deadline is ``wanted``."""
    for raw in system.objects.lines(part.object_key):
        line = PartLine.model_validate_json(raw)
        if wanted(line.task.deadline_at):
            yield len(raw), line


def told(row: BatchRow) -> str:
    """Why a task of this batch goes on by itself, for its record."""
    provider_batch = row.provider_batch
    name = provider_batch.id if provider_batch is not None and provider_batch.id else row.batch_id
    return f"rescued from {'slow ' if row.rescued_at is not None else ''}batch {name}"
