"""Salvage: what SQS gave up on is read all the same, and every task in it has its end.

A message comes here after a thousand receives. Waiting does not get it there (core/returns.py), so functions died of it
or failed at it. A task in it that has its end, or is on its way elsewhere, needs nothing more; any other is dead, with
``stranded`` as its code, and an operator may redrive it. What holds no task is a letter as it came.
"""

from __future__ import annotations

from lowtide.core.documents import Try, refused_letter
from lowtide.core.errors import safely_told
from lowtide.core.jsontext import carriable
from lowtide.core.lanes import Lane
from lowtide.core.receipts import Receipt
from lowtide.core.returns import MOST_RECEIVES
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import ClaimCall, TaskState, Verdict
from lowtide.core.trace import traced
from lowtide.ports import Change, Message, System

from .accept import Intake, judge
from .carry import Unreadable, read_tasks
from .coalesce import Coalescer, TaskRows
from .conclude import Conclusions, Ended
from .deliver import deliver, enter_without_task
from .letters import send_letters
from .tell import wake

CODE = "stranded"
REASON = f"its message was received {MOST_RECEIVES:,} times and never brought it to an end"

AT_ONCE = 10
"""Messages a turn: there should be none."""

VISIBILITY_S = 3_600
"""What one function died of may kill the next: once an hour leaves the other turns alone."""


async def salvage(system: System) -> int:
    """How many messages were brought to their end. One that fails, or holds a task that is being called, comes again
    in an hour; cut off anywhere, so do all."""
    messages = system.stranded.receive(AT_ONCE, visibility_s=VISIBILITY_S)
    done = []
    for message in messages:
        try:
            if await _salvaged(system, message):
                done.append(message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            system.metrics.log("salvage_failed", message_id=message.id, error=safely_told(error))
    if messages:
        system.stranded.delete(done)
        system.metrics.count("stranded", len(messages))
    return len(done)


async def _salvaged(system: System, message: Message) -> bool:
    try:
        tasks = read_tasks(system, message)
    except Unreadable:
        # Not what ingest writes: what publishers send it, judged as it would have.
        tasks = _from_publishers(system, message)
    rows: TaskRows = Coalescer(lambda changes: system.tasks.apply(changes, system.clock.now()), system.offload)
    conclusions = Conclusions(system, rows)
    # One by one: two of them may be the same task.
    ended = [await _end(system, conclusions, rows, task, f"{message.id}/{place}") for place, task in enumerate(tasks)]
    whole = all(each.delay_s is None for each in ended)
    deliveries = [each.delivery for each in ended if each.delivery is not None]
    deliver(system, f"message/{message.id}" if whole else None, deliveries)
    return whole


def _from_publishers(system: System, message: Message) -> list[AcceptedTask]:
    try:
        judged = judge(system, message)
    except Exception as error:  # noqa: BLE001 - it is what stranded the message
        letter = refused_letter(carriable(message.body), CODE, f"{REASON}: {safely_told(error)}", system.clock.now())
        judged = Intake(refused=[(message.id, letter)])
    send_letters(system, judged.refused)
    wake(system, judged.callbacks)
    if judged.refused:
        enter_without_task(system, [(f"intake/{message.id}", Receipt(refused=len(judged.refused)))])
    return judged.accepted


async def _end(system: System, conclusions: Conclusions, rows: TaskRows, task: AcceptedTask, place: str) -> Ended:
    with traced(task.traceparent):
        return await _buried(system, conclusions, rows, task, place)


async def _buried(system: System, conclusions: Conclusions, rows: TaskRows, task: AcceptedTask, place: str) -> Ended:
    [row] = system.tasks.get([task.key])
    holder = f"{place}/{CODE}"
    if row is None or row.state is not TaskState.CALLING or row.holder != holder:
        claim = await rows(Change(task.key, ClaimCall(task, holder, system.clock.now()), row))
        if claim.verdict is not Verdict.APPLIED or claim.row is None:
            return conclusions.unclaimed(task, claim, place)
        row = claim.row
    # This claim was for no call, so it is no attempt.
    attempt = Try(row.attempt - 1, Lane.DEFAULT, f"{task.route}; {CODE}", row.strikes)
    return await conclusions.bury(task, row, attempt, CODE, REASON)
