"""Answer: the real-time tiers, many calls in flight, each task claimed before its call and settled on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lowtide.core.errors import safely_told
from lowtide.core.returns import away_s
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import TaskRow
from lowtide.core.tiers import Tier
from lowtide.core.trace import traced, traced_from_here
from lowtide.ports import Message, System

from .ahead import in_cheap_hours
from .call import Caller
from .carry import Unreadable, read_tasks
from .coalesce import Coalescer
from .conclude import Ended
from .deliver import Delivery, count, deliver, told
from .gate import Gate
from .in_hand import InHand
from .lookout import on_the_lookout
from .newer import known_rows
from .slots import Slots

LONGEST_WAIT_S = 300.0
"""Between two receives of a message that keeps failing for reasons of ours, such as a store that does not answer."""


Telling = Coalescer[Delivery, Delivery]
"""Tells of the ends of a message's tasks, in one call for those that have ended meanwhile."""


@dataclass(frozen=True, slots=True)
class Report:
    """``done`` may be deleted; ``again`` was deferred already and is to come back. ``halted``: why sending stopped."""

    done: tuple[Message, ...]
    again: tuple[Message, ...]
    halted: str | None = None


async def answer(
    system: System,
    tier: Tier,
    messages: Sequence[Message],
    *,
    slots: Slots,
    gate: Gate | None = None,
    visibility_s: int | None = None,
    stop_at: datetime | None = None,
    ended: Callable[[], None] = lambda: None,
) -> Report:
    """Answers what it can of ``messages``.

    ``slots`` bounds the calls in flight, models and tenants taking turns. ``gate`` is the process's where it has many
    invocations at once; else this one has its own. ``visibility_s`` is kept up by a heartbeat meanwhile; None where
    the queue's own outlasts the caller. Every call has ended by ``stop_at``. What has not begun goes back where
    CRITICAL is kept waiting. A crash anywhere returns only what was not settled: the rest is recognised when its
    message comes again. ``ended`` is called at the end of each message, once.
    """
    gate = gate or Gate(system)
    await system.offload(lambda: _mark(system, tier, messages))
    in_hand = InHand(system, tier, messages, visibility_s)
    async with in_hand.kept(), on_the_lookout(system, tier, slots) as lookout:
        caller = Caller(system, slots, gate, lookout, stop_at)
        reader = _Reader(system, caller, in_hand, ended)
        reports = await asyncio.gather(*(reader.message(message) for message in messages))
    await gate.close()
    for waiting, longest_s in caller.waits_s.items():
        system.metrics.measure("wait_s", longest_s, tier=waiting.value)
    done = tuple(m for m, ended in zip(messages, reports, strict=True) if ended.delay_s is None)
    again = tuple(m for m, ended in zip(messages, reports, strict=True) if ended.delay_s is not None)
    halted = next((ended.halted for ended in reports if ended.halted), None)
    return Report(done=done, again=again, halted=halted)


def _mark(system: System, tier: Tier, messages: Sequence[Message]) -> None:
    """What was given back comes late for reasons of its own: only a first receive tells how long a message waited."""
    sent = [message.sent_at for message in messages if message.receives == 1]
    if sent:
        system.levels.mark(tier, (system.clock.now() - min(sent)).total_seconds())
    elif tier is Tier.NORMAL and in_cheap_hours(system):
        # Whoever waited for these hours waited on purpose: counted as age, it would fill the tier up.
        system.levels.mark(tier, 0.0)


class _Reader:
    """The messages of one invocation, each with its tasks."""

    def __init__(self, system: System, caller: Caller, in_hand: InHand, ended: Callable[[], None]) -> None:
        self._system = system
        self._caller = caller
        self._in_hand = in_hand
        self._ended = ended

    async def message(self, message: Message) -> Ended:
        """What is to come again is put back as soon as its own work has ended."""
        ended = await self._concluded(message)
        if ended.delay_s is not None:
            await self._in_hand.put_back(message, max(0, min(43_200, round(ended.delay_s))))
        self._ended()
        return ended

    async def _concluded(self, message: Message) -> Ended:
        """What goes wrong here goes wrong for this message alone: it comes again, later each time, and is reported."""
        try:
            return await self._message(message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
            self._system.metrics.count("message_errors")
            self._system.metrics.log(
                "message_failed", message_id=message.id, receives=message.receives, error=safely_told(error)
            )
            return Ended(delay_s=self._away_s(message, min(LONGEST_WAIT_S, 2.0 ** min(message.receives, 20)), ()))

    async def _message(self, message: Message) -> Ended:
        """Work on all tasks of a message at once. When the last has ended, count them in one entry of the ledger."""
        try:
            tasks = await self._system.offload(lambda: read_tasks(self._system, message))
        except Unreadable as error:
            delivery = Delivery.unreadable(message, str(error), self._system.clock.now())
            await self._system.offload(lambda: deliver(self._system, f"message/{message.id}", [delivery]))
            return Ended()
        traced_from_here(task.traceparent for task in tasks)
        seen = await self._seen(message, tasks)
        tell: Telling = Coalescer(lambda deliveries: told(self._system, deliveries), self._system.offload)
        each = enumerate(zip(tasks, seen, strict=True))
        calls = (self._task(tell, message, task, row, place, len(tasks)) for place, (task, row) in each)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        ended = [outcome for outcome in outcomes if isinstance(outcome, Ended)]
        delays = [e.delay_s for e in ended if e.delay_s is not None]
        entry = f"message/{message.id}" if len(ended) == len(outcomes) and not delays else None
        whole = [e.delivery for e in ended if e.delivery is not None]
        # ``entry`` is None where the message comes again, with all its tasks.
        await self._system.offload(lambda: count(self._system, entry, whole))
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        halted = next((e.halted for e in ended if e.halted), None)
        waiting = [t for t, o in zip(tasks, outcomes, strict=True) if isinstance(o, Ended) and o.delay_s is not None]
        return Ended(delay_s=self._away_s(message, min(delays), waiting) if delays else None, halted=halted)

    async def _task(
        self, tell: Telling, message: Message, task: AcceptedTask, seen: TaskRow | None, place: int, beside: int
    ) -> Ended:
        """Work on one task, and tell of its end at once, whatever the others of its message are at.

        It is told before the message may be deleted, so a crash in between tells it again with the same ids. If it
        cannot be told, it is as if it had failed: the message comes again, and the task needs no other call.
        """
        where = f"{message.id}/{place}"
        with traced(task.traceparent):
            ended = await self._caller.task(task, where, seen, receives=message.receives, beside=beside)
            return ended if ended.delivery is None else replace(ended, delivery=await tell(ended.delivery))

    def _away_s(self, message: Message, wait_s: float, waiting: Sequence[AcceptedTask]) -> float:
        """Whatever a message is given back for, SQS counts: it must not come to its last receive by waiting."""
        deadlines = [task.deadline_at for task in waiting]
        return away_s(wait_s, message.receives, message.sent_at, deadlines, self._system.clock.now())

    async def _seen(self, message: Message, tasks: Sequence[AcceptedTask]) -> Sequence[TaskRow | None]:
        """The rows of tasks that have been here before: most of a message that comes again may be done, and a read is
        cheaper than a claim that fails. What comes for the first time is claimed on a guess."""
        if message.receives == 1:
            return [None] * len(tasks)
        # A newer row is met again by its claim, which says so.
        return await self._system.offload(lambda: known_rows(self._system.tasks, [task.key for task in tasks]))
