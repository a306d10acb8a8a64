"""Who is at work in a play, and what each does in a turn: the deployed functions' own steps, and an operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from random import Random
from typing import Any, TypeVar

from lowtide.core.batches import BatchState, Unanswered
from lowtide.core.errors import Contended
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Message, System
from lowtide.steps.answer import Report, answer
from lowtide.steps.cancel import cancel_tasks, stop_batch
from lowtide.steps.redrive import redrive
from lowtide.steps.slots import Slots
from lowtide.steps.turns import TO_COLLECT, assemble, collect_due, sweep_due
from lowtide_local.engine.engine import Engine
from tests.sweep.schedules import Schedule

T = TypeVar("T")
CONSUMED = Tier.NORMAL
"""The one real-time queue that these schedules use: what is rescued goes there too."""
SLOTS = 4
"""Of a consumer that has the day to itself."""
VISIBILITY_S = 60
"""Shorter than a stall and than the longest wait for a claim: messages come back while they are worked on."""


class Role(Enum):
    WORKER = "worker"
    ASSEMBLER = "assembler"
    POLLER = "poller"
    CONSUMER = "consumer"
    OPERATOR = "operator"

    def cares(self, state: BatchState) -> bool:
        """Has it something to do with a batch in this state?"""
        match self:
            case Role.WORKER:
                return True
            case Role.ASSEMBLER:
                return state not in TO_COLLECT
            case Role.POLLER:
                return state in TO_COLLECT
            case Role.CONSUMER | Role.OPERATOR:
                return False


@dataclass(frozen=True, slots=True)
class Actor:
    """``turn`` is what one invocation does. ``skew_s``: how far its clock is ahead."""

    role: Role
    name: str
    turn: Callable[[System], None]
    skew_s: float = 0.0


def cast(schedule: Schedule, dice: Random, operator: Operator) -> Iterator[Actor]:
    def skew() -> float:
        return round(dice.uniform(-schedule.skew_s, schedule.skew_s), 3)

    if schedule.called:
        for number in range(1, schedule.consumers + 1):
            yield Actor(Role.CONSUMER, f"consumer {number}", partial(_consume, most=10, slots=SLOTS), skew())
    elif schedule.crew == 0:
        yield Actor(Role.WORKER, "worker", _work)
    for number in range(1, schedule.crew + 1):
        yield Actor(Role.ASSEMBLER, f"assembler {number}", _assemble, skew())
        yield Actor(Role.POLLER, f"poller {number}", _poll, skew())
        if not schedule.called:
            yield Actor(Role.CONSUMER, f"consumer {number}", _consume, skew())
    if schedule.orders:
        yield Actor(Role.OPERATOR, "operator", operator.work, skew())


def _assemble(system: System) -> None:
    driven(assemble(system, flush=True))


def _poll(system: System) -> None:
    driven(collect_due(system))
    driven(sweep_due(system))


class TurnedOver(Exception):
    """A consumer's turn failed as a whole, or left something behind in its process: its neighbours pay for it."""


def _consume(system: System, most: int = 2, slots: int = 2) -> None:
    messages = system.tiers[CONSUMED].receive(most, visibility_s=VISIBILITY_S)
    if messages:
        report = _in_a_loop(lambda: _answered(system, messages, Slots(slots)))
        system.tiers[CONSUMED].delete(report.done)


async def _answered(system: System, messages: Sequence[Message], slots: Slots) -> Report:
    """Whatever the ports raise, each message has its own end, and no slot and no task of the loop is left behind."""
    try:
        report = await answer(system, CONSUMED, messages, slots=slots)
    except Exception as error:
        raise TurnedOver(f"the consumer raised {error!r}") from error
    if len(report.done) + len(report.again) != len(messages):
        raise TurnedOver("some messages have no end")
    await asyncio.sleep(0)
    left = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
    if left or slots.held:
        raise TurnedOver(f"{slots.held} slots and {len(left)} tasks of the loop are left: {left}")
    return report


def _work(system: System) -> None:
    _consume(system)
    _assemble(system)
    _poll(system)


class Operator:
    """Gives so many orders, each again until it was not cut off."""

    def __init__(self, engine: Engine, names: list[tuple[str, str]], dice: Random, orders: int) -> None:
        self._engine, self._names, self._dice = engine, names, dice
        self.left = orders
        self._order: Callable[[System], None] | None = None

    def work(self, system: System) -> None:
        if self.left == 0:
            return
        if self._order is None:
            self._order = self._next()
        try:
            self._order(system)
        except Contended:
            return
        self._order = None
        self.left -= 1

    def _next(self) -> Callable[[System], None]:
        match self._dice.randrange(3):
            case 0:
                names = self._dice.sample(self._names, 2)
                return lambda system: _told(cancel_tasks(system, names))
            case 1:
                unanswered = self._dice.choice(list(Unanswered))
                active = [row.batch_id for row in self._engine.batches.active()]
                stopped = self._dice.choice(active) if active else "b-none"
                return lambda system: _told(stop_batch(system, stopped, unanswered))
            case _:
                dead = [
                    (row.tenant, row.task_id)
                    for row in self._engine.tasks.scan()
                    if row.state is TaskState.DEAD or row.redriving
                ]
                return lambda system: _told(redrive(system, dead))


def _told(_: object) -> None:
    """What an order answers is for the operator to read."""


def driven(coroutine: Coroutine[Any, Any, T]) -> T:
    """To its end without a loop: nothing in it waits but by standing still."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something that no play has")


def _in_a_loop(begin: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of tasks that died in a crash
        return await begin()

    with asyncio.Runner() as runner:
        return runner.run(main())
