"""What must hold in every play: at each step that nothing is lost, at the end that nothing was paid twice or left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lowtide.core.batches import BatchRow
from lowtide.core.outward import Success, end_id
from lowtide.core.packs import unpack
from lowtide.core.parts import PartRow
from lowtide.core.prompts import request_body
from lowtide.core.receipts import Receipt
from lowtide.core.records import Status
from lowtide.core.task import AcceptedTask, custom_id
from lowtide.core.tasks import SETTLED, TaskRow, TaskState
from lowtide.core.tiers import Tier
from lowtide.steps.deliver import document_of
from lowtide.steps.rescue import rest_of
from lowtide_local.engine.engine import Engine
from lowtide_local.run.records import settled
from tests.sweep.counts import uncounted
from tests.sweep.model_provider import Mishap

if TYPE_CHECKING:
    from tests.sweep.play import Play

REASONS = {
    "refuse": frozenset({"content_policy_violation"}),
    "bad-line": frozenset({"invalid_line"}),
    "unnamed": frozenset({"invalid_request"}),
}
"""Why a task with this mark may be dead, beside having failed as often as is allowed."""
SPENT = frozenset({"server_error", "missing", "batch_expired", "batch_never_ended"})
UNWELL = frozenset({"overloaded", "connection", "timeout"})
"""Codes with which calls alone may die, where models fail."""

BEARABLE_S = 300.0
"""For how long a service may fail while an hour's deadlines are still to be met."""

BUSY = "duplicate"
"""What a copy of a batched task is told that comes while another is at work."""

ONLY_SLOW = frozenset({Mishap.SLOW, Mishap.REPLY_LOST, Mishap.ERROR_HIDES_IT})
"""Where others befall a batch too, tries add up, and the actors of a play rest for hours between them."""

SKEW = timedelta(seconds=60)
"""Between the fastest clock and the slowest."""


class Watch:
    """Hears of every row that is written, and looks each time: accepted = queued + staged + in batch + ended."""

    def __init__(self, engine: Engine, tasks: Sequence[AcceptedTask]) -> None:
        self._database = engine._database
        self._now = engine._clock.now
        self._keys = [task.key for task in tasks]
        self._carried: dict[int, frozenset[str]] = {}
        self.tasks: dict[str, TaskRow] = {}
        self.parts: dict[str, PartRow] = {}
        self.batches: dict[str, BatchRow] = {}
        self.moves = 0
        """Counts changes of state: the same after a turn that had nothing to do."""
        self.given_back = 0
        """Claims that were taken back, because they only chose a LOW task's model."""
        self.faults: list[str] = []

    def look(self) -> None:
        if not self.faults:
            self.faults += self._lost()

    def hear(self, rows: dict[str, Any], written: Sequence[Any]) -> None:
        for row in written:
            before = rows.get(row.key)
            rows[row.key] = row
            self.moves += before is None or before.state is not row.state
            if isinstance(row, TaskRow) and isinstance(before, TaskRow):
                self.given_back += max(0, before.attempt - row.attempt)
        self.look()

    def ended(self) -> bool:
        """Every task has its record, and nothing is queued, staged or in a batch."""
        if any(row.active for rows in (self.parts, self.batches) for row in rows.values()):
            return False
        if any(key not in self.tasks or self.tasks[key].state not in SETTLED for key in self._keys):
            return False
        return not self._waiting()

    def _lost(self) -> Iterator[str]:
        queued = None
        for key in self._keys:
            row = self.tasks.get(key)
            if row is not None and (row.state in SETTLED or self._at_work(row)):
                continue
            queued = self._queued() if queued is None else queued
            if key not in queued:
                where = "has no row" if row is None else f"is {row.state} for {row.holder}"
                yield f"{key} {where}, and nothing will move it on"

    def _at_work(self, row: TaskRow) -> bool:
        """Without its message, is it in somebody's hands, or kept where it will be looked for?"""
        match row.state:
            case TaskState.STAGED:
                return self._goes_on(str(row.holder))
            case TaskState.CALLING:
                return row.claimed_until is not None and self._now() < row.claimed_until + SKEW
            case TaskState.QUEUED:
                # Perhaps not sent yet: the row keeps the letter to send a redriven task from, and whoever frees one
                # from a part or a batch is not through with that before it is sent.
                return row.redriving or (row.rescued_from is not None and self._rescuing(row.rescued_from))
            case _:
                return False

    def _rescuing(self, name: str) -> bool:
        found = self.batches.get(name) or self.parts.get(name)
        return found is not None and found.active

    def _goes_on(self, part_id: str) -> bool:
        """Is this part going into a batch, in one, or about to be made by the one before?"""
        part = self.parts.get(part_id)
        if part is not None and part.active:
            return True
        if part is None and any(part_id == rest_of(each.part_id) for each in self.parts.values() if each.active):
            return True
        # A part that is done is looked through once more before its batch is.
        maker = part.batch_id if part is not None else part_id[2:].removesuffix("-1").removesuffix("-2")
        batch = self.batches.get(str(maker))
        return batch is not None and batch.active

    def _queued(self) -> set[str]:
        ids = self._waiting()
        for number in ids:
            if number not in self._carried:
                [body] = self._database.execute("SELECT body FROM messages WHERE id = ?", (number,)).fetchone()
                self._carried[number] = frozenset(task.key for task in unpack(body))
        return {key for number in ids for key in self._carried[number]}

    def _waiting(self) -> list[int]:
        found = self._database.execute("SELECT id FROM messages WHERE queue != 'dead-letters'").fetchall()
        return [number for (number,) in found]


class WatchedRows:
    """A ports.Rows whose every write is told."""

    def __init__(self, rows: Any, watch: Watch, known: dict[str, Any]) -> None:
        self._rows, self._watch, self._known = rows, watch, known
        self.get, self.active = rows.get, rows.active

    def apply(self, changes: Sequence[Any], now: datetime) -> list[Any]:
        decisions = self._rows.apply(changes, now)
        self._watch.hear(self._known, [decision.row for decision in decisions if decision.changed])
        return list(decisions)


def left_behind(play: Play) -> Iterator[str]:
    """What a turn holds that has ended, where nobody else is at work: a lease or a probe that others wait for. What
    could not be written could not be given back."""
    schedule, now = play.schedule, play.clock.now()
    if schedule.crew or schedule.consumers > 1 or play.crashed:
        return
    if "batches.apply" not in play.raised:
        held = [row.batch_id for row in play.watch.batches.values() if row.lease_until and row.lease_until > now]
        yield from (f"the lease of {name} was not given back" for name in held)
    if schedule.troubles and not {"paces.apply", "paces.get"} & play.raised:
        probes = [
            row.key for row in play.engine.paces.scan() if row.probe and row.probe_until and row.probe_until > now
        ]
        yield from (f"the probe of {name} was not given back" for name in probes)


def broken(play: Play) -> Iterator[str]:
    """Every promise that does not hold at the end."""
    records = list(_records(play))
    yield from records
    yield from _bill(play)
    yield from _sent_again(play)
    yield from _given_up(play)
    if not records:
        yield from _ledger(play)
        yield from _late(play)
        yield from _counted(play)
    yield from _left(play)
    yield from _told(play)


def _records(play: Play) -> Iterator[str]:
    marks = {task.task_id: str(request_body(task)["messages"][-1]["content"]) for task in play.tasks}
    answers = {billed.answer_id: billed for billed in play.provider.billed}
    for row in play.engine.tasks.scan():
        if row.document is None and row.pointer is None:
            yield f"{row.task_id} is {row.state}, and its record is nowhere"
            continue
        record = document_of(play.system, row).record
        if record.status.value != row.state.value:
            yield f"{row.task_id} is {row.state} with a record that says {record.status}"
        if record.attempts != row.attempt:
            yield f"{row.task_id} is at attempt {row.attempt} with a record of attempt {record.attempts}"
        if record.status is Status.ANSWERED:
            billed = answers.get(record.response.body.get("id")) if record.response is not None else None
            if billed is None or (billed.task, billed.batch_id) != (_digest(row), record.batch_id):
                yield f"{row.task_id} has an answer that was not billed where its record says"
        elif record.status is Status.DEAD:
            code = record.error.code if record.error is not None else None
            spent = SPENT | UNWELL if play.schedule.unwell else SPENT
            if code not in REASONS.get(marks[row.task_id], frozenset()) | spent:
                yield f"{row.task_id}, {marks[row.task_id]}, died of {code}"
        elif not play.schedule.orders:
            yield f"{row.task_id} is cancelled, and nobody asked for it"


def _bill(play: Play) -> Iterator[str]:
    attempts = Counter(billed.custom_id for billed in play.provider.billed)
    for name, times in attempts.items():
        if times > 1:
            yield f"attempt {name[:6]}…{name[-2:]} was billed {times} times"
    by_task = Counter(billed.task for billed in play.provider.billed)
    schedule = play.schedule
    quiet = not (play.crashed or schedule.stall or schedule.unwell)
    disturbed = play.crashed or schedule.stall or schedule.orders or schedule.troubles or schedule.unwell
    for row in play.engine.tasks.scan():
        in_vain = by_task[_digest(row)] - (row.state is TaskState.ANSWERED) - questions(row)
        if in_vain > row.repaid:
            yield f"{row.task_id} was billed {in_vain} times beside its answer, and {row.repaid} are counted as repaid"
        if in_vain > 0 and row.tier is not Tier.LOW and not disturbed:
            yield f"{row.task_id} was called again though nobody had died or stood still"
        stored = "objects.put" not in play.raised
        if row.repaid and schedule.called and quiet and stored and row.key not in play.doubtful:
            yield f"{row.task_id} is repaid, and no write of its own had failed"


def _sent_again(play: Play) -> Iterator[str]:
    """A line goes into another batch when the one that has it has ended, or was waited for long enough."""
    held: dict[str, datetime] = {}
    for batch in play.provider.batches.values():
        for digest in {custom_id_.rpartition("-")[0] for custom_id_, _ in batch.lines}:
            if digest in held and batch.created_at < held[digest]:
                yield f"{digest[:6]}… was sent again while a batch was still to answer it"
            held[digest] = max(held.get(digest, batch.created_at), batch.over_at())
    for billed in play.provider.billed:
        if billed.batch_id is None and not billed.is_question and billed.at < held.get(billed.task, billed.at):
            yield f"{billed.task[:6]}… was called for while a batch was still to answer it"


def _given_up(play: Play) -> Iterator[str]:
    """This provider keeps every file until it is deleted: one that is not there was deleted too early, by us. A file
    that has no line of its batch is given up too, and loses nothing."""
    for batch in play.engine.batches.scan():
        given_up = {file.ref for file in batch.away if file.given_up}
        yield from (f"{ref} was deleted before it was read" for ref in sorted(given_up & play.provider.missed))


def _late(play: Play) -> Iterator[str]:
    """Rescued in time from any slow batch, where nobody dies or stands still, and nothing else is wrong."""
    schedule = play.schedule
    if play.crashed or schedule.stall or schedule.flaky or schedule.orders or {*schedule.mishaps} - ONLY_SLOW:
        return
    if schedule.unwell or schedule.refused_s or (schedule.troubles and not schedule.called):
        return
    if sum(trouble.seconds for trouble in schedule.troubles) > BEARABLE_S:
        return
    if any(mark == "unnamed" for _, _, mark in schedule.tasks):
        return  # bisected, try by try
    for row in play.engine.tasks.scan():
        if row.state is TaskState.ANSWERED and not document_of(play.system, row).record.deadline_met:
            yield f"{row.task_id} was answered after its deadline"


def questions(row: TaskRow) -> int:
    """Lines that were billed for the choice of its model, and are in its record."""
    return int(row.choice is not None and row.choice.question_id is not None)


def _digest(row: TaskRow) -> str:
    return custom_id(row.tenant, row.task_id, 0).rpartition("-")[0]


def _ledger(play: Play) -> Iterator[str]:
    total = play.engine.ledger.total()
    told = Receipt.sum(
        Receipt.of(document.record, repaid=row.repaid, premium_usd=document.premium_usd)
        for row, document in settled(play.system, play.engine)
    ).model_copy(update={"refused": 0, "duplicates": len(play.copies)})
    if total != told:
        yield f"the ledger says {total.model_dump_json()}, the records {told.model_dump_json()}"


def _counted(play: Play) -> Iterator[str]:
    """The metrics count everything that happened if no process died and no port raised, and never more than that."""
    missing = uncounted(play.metrics, play.system, play.engine, given_back=play.watch.given_back)
    sure = not play.crashed and not play.doubtful and not play.schedule.troubles
    yield from (f"{name} lacks {amount:g}" for name, amount in missing.items() if amount < 0 or sure)


def _told(play: Play) -> Iterator[str]:
    """Each end to all that waited for it: an event, a reply where one is asked for, and each sleeper once."""
    rows = {row.key: row for row in play.engine.tasks.scan()}
    records = {key: document_of(play.system, row).record for key, row in rows.items() if row.state in SETTLED}
    wanted = {end_id(records[key], row) for key, row in rows.items() if key in records}
    wanted |= {f"{row.batch_id}.{row.submission}" for row in play.engine.batches.scan() if row.provider_batch}
    if untold := wanted - {event.id for event in play.events.sent}:
        yield f"{len(untold)} ends are in no event"
    asked = {task.key for task in play.tasks if task.reply_to is not None}
    replied = {reply.id for reply in play.replies.replies}
    unanswered = [key for key in asked & records.keys() if end_id(records[key], rows[key]) not in replied]
    yield from (f"{key} has no reply" for key in unanswered)
    first: dict[str, str] = {}
    for callback in play.callbacks.sent:
        first.setdefault(callback.token, "answered" if isinstance(callback.told, Success) else callback.told.error)
    for key, record in records.items():
        ends = {record.error.code if record.error is not None else "answered"}
        if rows[key].generation:
            ends |= SPENT | {code for codes in REASONS.values() for code in codes}
        copies = [task.task_token for task in (*play.tasks, *play.copies) if task.key == key]
        heard = [first.get(str(token)) for token in copies]
        if None in heard or not ends & {*heard} or {*heard} - ends - {BUSY}:
            yield f"{key} ended as {ends}, and its {len(copies)} sleepers heard {heard}"
        elif BUSY in heard and play.schedule.called and rows[key].tier is not Tier.LOW:
            yield f"{key} was never batched, and a sleeper heard that it was at work"


def _left(play: Play) -> Iterator[str]:
    yield from (f"{what} is left at the provider" for what in play.provider.left(play.system.deployment))
    yield from (f"{what} is another's, and was touched" for what in play.provider.touched)
    dead = {row.task_id for row in play.engine.tasks.scan() if row.state is TaskState.DEAD}
    letters = play.engine.queue("dead-letters").depth().visible
    if letters < len(dead):
        yield f"{len(dead)} tasks are dead, and {letters} letters were sent"
