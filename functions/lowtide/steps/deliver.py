"""Deliver: what a settled task owes the world before its message is deleted: who is told, dead letters, the ledger.

All of it may be repeated: ledger entries replace themselves, all that is sent carries stable ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from lowtide.core.documents import refused_letter
from lowtide.core.errors import NotFound, Unfinished
from lowtide.core.outward import Callback
from lowtide.core.receipts import Receipt
from lowtide.core.records import DeadLetter, Pointer, ResultDocument
from lowtide.core.task import AcceptedTask, custom_id
from lowtide.core.tasks import SETTLED, TaskRow, TaskState
from lowtide.ports import Message, System

from .letters import send_letters
from .newer import known_rows
from .tell import Ended, again, refusal, tell, wake

T = TypeVar("T")

INLINE_BYTES = 100 * 1024
"""A row holds at most 400 KB (DynamoDB) and every write pays by the KB: larger documents go to an object."""

TOLD_ALONE_WITHIN = timedelta(seconds=5)
"""How long after its start a telling that failed is tried for each task alone. A service that fails quickly refuses
something. One that hangs would hang once for each task."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one task of a message owes. ``entry`` names a ledger entry of its own, for what a second copy of the
    message would bring again (ingest, cut off, sends some tasks twice), and for what may yet be replaced. ``row`` is
    that of a task which this delivery has ended, ``beside`` that of a task which another delivery ends.
    """

    receipt: Receipt = field(default_factory=Receipt)
    entry: str | None = None
    letter: tuple[str, DeadLetter] | None = None
    task: AcceptedTask | None = None
    row: TaskRow | None = None
    document: ResultDocument | None = None
    beside: TaskRow | None = None
    earlier: bool = False
    """The task ended in an earlier delivery, which may have told of it."""

    @classmethod
    def settled(cls, task: AcceptedTask, row: TaskRow, document: ResultDocument | None = None) -> Delivery:
        """``document`` is left out for a task that an earlier delivery ended: the row keeps it, or says where it is."""
        return cls(task=task, row=row, document=document or row.document, earlier=document is None)

    @classmethod
    def unneeded(cls, task: AcceptedTask, row: TaskRow) -> Delivery | None:
        """The task ends, or has ended, without this delivery. None where it owes nothing: it is no duplicate, and its
        token, if it has one, is told with the task."""
        if task.origin == row.origin and task.token_digest in (None, row.token_digest):
            return None
        return cls(task=task, beside=row)

    @classmethod
    def conflict(cls, task: AcceptedTask, now: datetime) -> Delivery:
        message = (
            f"task_id {task.task_id!r} was taken by another task of tenant {task.tenant!r} in the last 30 days; "
            "give this one an id of its own"
        )
        letter = refused_letter(task.message, "id_conflict", message, now)
        named = (f"{task.origin} conflict", letter)
        return cls(Receipt(refused=1), entry=f"conflict/{task.origin}", letter=named, task=task)

    @classmethod
    def unreadable(cls, message: Message, reason: str, now: datetime) -> Delivery:
        text = f"the message on a tier's queue is not one that ingest wrote ({reason}); send tasks to the intake queue"
        letter = refused_letter(message.body, "invalid_task", text, now)
        return cls(Receipt(refused=1), entry=f"unreadable/{message.id}", letter=(message.id, letter))


def deliver(system: System, entry: str | None, deliveries: Sequence[Delivery]) -> None:
    """Tell what was settled, then count it: see ``told`` and ``count``."""
    count(system, entry, told(system, deliveries))


def told(system: System, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Send what others wait for: letters, replies, events, callbacks. Return the deliveries as ``count`` takes them.

    They are sent together. If that fails, each is sent alone, so that one that cannot be sent holds back no other.
    Raises Unfinished then, with the error of each that failed.
    """
    began = system.clock.now()
    try:
        return _sent(system, deliveries)
    except Exception as error:
        if len(deliveries) == 1:
            raise
        failed = error
    outcomes: list[Delivery | Exception] = []
    for delivery in deliveries:
        if system.clock.now() - began > TOLD_ALONE_WITHIN:
            outcomes.append(failed)
            continue
        try:
            outcomes += _sent(system, [delivery])
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours are told
            outcomes.append(error)
    done = [outcome for outcome in outcomes if isinstance(outcome, Delivery)]
    if len(done) < len(outcomes):
        raise Unfinished(outcomes)
    return done


def _sent(system: System, deliveries: Sequence[Delivery]) -> list[Delivery]:
    whole = [_filled(system, delivery) for delivery in deliveries]
    fresh = untold(system, whole, _death_entry)
    send_letters(system, [delivery.letter for delivery in fresh if delivery.letter is not None])
    tell(
        system,
        [
            Ended(delivery.task, delivery.row, delivery.document.record)
            for delivery in fresh
            if delivery.task is not None and delivery.row is not None and delivery.document is not None
        ],
    )
    wake(system, [callback for delivery in whole if (callback := _beside(system, delivery)) is not None])
    return whole


def untold(system: System, whole: Sequence[T], death_entry: Callable[[T], str | None]) -> Sequence[T]:
    """Leave out the deaths and the refusals whose own entry is in the ledger: it was put there after they had been told
    of. ``death_entry`` names that entry, and is None for what is told again. (The entry of a cancelled task may come
    from an answer in vain, before anybody was told.)"""
    entries = [death_entry(each) for each in whole]
    names = [entry for entry in entries if entry is not None]
    if not names:
        return whole
    told_of = system.ledger.standing(names)
    return [each for each, entry in zip(whole, entries, strict=True) if entry not in told_of]


def _death_entry(delivery: Delivery) -> str | None:
    row = delivery.row
    dead = row is None or (delivery.earlier and row.state is TaskState.DEAD)
    return delivery.entry if dead else None


def count(system: System, entry: str | None, whole: Sequence[Delivery]) -> None:
    """Put the receipts into the ledger.

    ``entry`` names the ledger entry: the same deliveries again replace it by its equal. None where more is to come
    that shares it: put in parts, it could be replaced by less of it, by whoever was slower.
    """
    if not whole:
        return
    entries = [(delivery.entry, delivery.receipt) for delivery in whole if delivery.entry is not None]
    entries += [duplicate for delivery in whole if (duplicate := _duplicate(delivery)) is not None]
    together = [delivery for delivery in whole if delivery.entry is None and delivery.beside is None]
    if entry is not None and together:
        entries.append((entry, Receipt.sum(delivery.receipt for delivery in together)))
    enter_without_task(system, [each for each in entries if _without_task(each[1])])
    system.ledger.put([each for each in entries if not _without_task(each[1])])
    _count_late(system, whole)


def _without_task(receipt: Receipt) -> bool:
    return bool(receipt.refused or receipt.duplicates)


def enter_without_task(system: System, entries: Sequence[tuple[str, Receipt]]) -> None:
    """Put the receipts of what became no task, refusals and duplicates, into the ledger. The metrics count them where
    their entries are new. If some cannot be put, the others are counted before this raises."""
    if not entries:
        return
    named = dict(entries)
    try:
        new = system.ledger.add(entries)
    except Unfinished as error:
        outcomes = zip(named.values(), error.outcomes, strict=True)
        _count_new(system, [receipt for receipt, is_new in outcomes if is_new is True])
        raise
    _count_new(system, [receipt for name, receipt in named.items() if name in new])


def _count_new(system: System, receipts: Sequence[Receipt]) -> None:
    added = Receipt.sum(receipts)
    for name, amount in (("duplicates", added.duplicates), ("refused", added.refused), ("dead_letters", added.refused)):
        if amount:
            system.metrics.count(name, amount)


def _count_late(system: System, whole: Sequence[Delivery]) -> None:
    """Put the receipts of cancelled tasks once more where their rows have changed meanwhile: an answer in vain was
    counted, and our receipt does without it."""
    cancelled = [each.row for each in whole if each.row is not None and each.row.state is TaskState.CANCELLED]
    while cancelled:
        rows = known_rows(system.tasks, [row.key for row in cancelled])
        cancelled = [
            now for before, now in zip(cancelled, rows, strict=True) if now is not None and now.rev != before.rev
        ]
        receipts = [(row, document_of(system, row).record) for row in cancelled]
        system.ledger.put([(task_entry(row), Receipt.of(record, repaid=row.repaid)) for row, record in receipts])


def _filled(system: System, delivery: Delivery) -> Delivery:
    row = delivery.row
    if row is None:
        return delivery
    document = delivery.document or document_of(system, row)
    letter = None
    if document.letter is not None:
        letter = (f"{document.record.id} {row.generation}", document.letter)
    receipt = Receipt.of(document.record, repaid=row.repaid, premium_usd=document.premium_usd)
    return replace(delivery, document=document, letter=letter, receipt=receipt, entry=own_entry(row))


def _duplicate(delivery: Delivery) -> tuple[str, Receipt] | None:
    """The ledger entry of a delivery that came beside the one which made the task's row, whichever of them ended it.
    Named by its origin, it counts once, however often that comes."""
    task, row = delivery.task, delivery.row or delivery.beside
    if task is None or row is None or task.origin == row.origin:
        return None
    return f"duplicate/{task.origin}", Receipt(duplicates=1)


def _beside(system: System, delivery: Delivery) -> Callback | None:
    """For a token that came with what became no task of its own, or with a task that another delivery ends."""
    task, row = delivery.task, delivery.beside
    if task is None or task.task_token is None or delivery.row is not None:
        return None
    if delivery.letter is not None:
        return refusal(task, delivery.letter[1])
    if row is None or row.token_digest == task.token_digest:
        # A send that was repeated on the way: the sleeper is told with the task.
        return None
    try:
        record = document_of(system, row).record if row.state in SETTLED else None
    except NotFound:  # retention has removed it
        record = None
    return again(task, task.task_token, row, record)


def own_entry(row: TaskRow) -> str | None:
    """The ledger entry of a task that ended without an answer; None for an answered one, which shares its message's or
    its shard's.

    A dead task may be redriven while its message or its batch is still to be delivered a second time, and a cancelled
    one may meet several deliveries: an entry by task and generation says the same whoever puts it, and whenever.
    """
    return None if row.state is TaskState.ANSWERED else task_entry(row)


def task_entry(row: TaskRow) -> str:
    return f"task/{row.key} {row.generation}"


def stored(
    system: System, task: AcceptedTask, attempt: int, document: ResultDocument
) -> tuple[ResultDocument | None, Pointer | None]:
    """(inline, pointer): exactly one of them. An object is durable when this returns."""
    data = document.model_dump_json().encode()
    if len(data) <= INLINE_BYTES:
        return document, None
    key = f"results/calls/{custom_id(task.tenant, task.task_id, attempt)}.json"
    system.objects.put(key, data)
    return None, Pointer(key=key, offset=0, length=len(data))


def document_of(system: System, row: TaskRow) -> ResultDocument:
    """The document of a settled row. Raises NotFound where retention has removed it."""
    if row.document is not None:
        return row.document
    if row.pointer is None:
        raise AssertionError(f"task {row.task_id!r} is {row.state}, so it has no document yet")
    data = system.objects.get(row.pointer.key, offset=row.pointer.offset, length=row.pointer.length)
    return ResultDocument.model_validate_json(data)
