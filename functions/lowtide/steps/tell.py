"""Tell: what an end owes to those outside: a reply, an event, a callback. All may be repeated, with the same ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from lowtide.core import outward
from lowtide.core.batches import BatchRow
from lowtide.core.outward import Callback
from lowtide.core.records import DeadLetter, ResultRecord
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import TaskRow
from lowtide.ports import Reply, System


@dataclass(frozen=True, slots=True)
class Ended:
    """A settled task: ``row`` keeps ``record``, or says where it is kept."""

    task: AcceptedTask
    row: TaskRow
    record: ResultRecord


def tell(system: System, ends: Sequence[Ended]) -> None:
    """Before the message is deleted, or the batch done: whoever repeats the step tells it again."""
    if replies := [reply for end in ends if (reply := _reply(end)) is not None]:
        system.replies.send(replies)
    if ends:
        told = [outward.settled(system.deployment, end.record, end.row, end.task.traceparent) for end in ends]
        system.events.send(told)
    wake(system, [outward.woken(end.task.task_token, end.record, end.row) for end in ends if end.task.task_token])
    for end in ends:
        if end.task.traceparent is not None:
            system.metrics.log(
                "task_settled",
                record_id=end.record.id,
                status=end.record.status.value,
                code=end.row.error_code,
                traceparent=end.task.traceparent,
            )


def tell_batch(system: System, row: BatchRow) -> None:
    """Before the batch is done."""
    system.events.send([outward.finished(system.deployment, row)])


def wake(system: System, callbacks: Sequence[Callback]) -> None:
    if callbacks:
        system.callbacks.send(callbacks)


def again(task: AcceptedTask, token: str, row: TaskRow, record: ResultRecord | None) -> Callback:
    """What a token is told that came beside the task's: the record where the task has ended, otherwise that its message
    is a duplicate."""
    if record is not None:
        return outward.woken(token, record, row)
    cause = f"task {task.task_id} is being worked on for another message; send it with an id of its own, or wait"
    return outward.failed(token, "duplicate", cause)


def refusal(task: AcceptedTask, letter: DeadLetter) -> Callback | None:
    return None if task.task_token is None else outward.refused(task.task_token, letter)


def _reply(end: Ended) -> Reply | None:
    if end.task.reply_to is None:
        return None
    body, whole = outward.replied(end.record)
    result = None if whole else orjson.dumps(outward.location(end.row)).decode()
    return Reply(end.task.reply_to, body, outward.end_id(end.record, end.row), result, end.task.traceparent)
