"""Operators at work all day: tasks and batches cancelled, dead letters redriven, LOW work held, at random moments and
with crashes.

Replay a schedule with the seed and the number that a failure names: ``OPERATORS_SEED=… pytest tests/steps``.
"""

from __future__ import annotations

import asyncio
import os
from random import Random

import pytest

from lowtide.core.batches import Unanswered
from lowtide.core.errors import Contended
from lowtide.core.holds import Lift, Place, Scope
from lowtide.core.tasks import TaskState
from lowtide.ports import Change
from lowtide.steps.cancel import cancel_tasks, stop_batch
from lowtide.steps.redrive import redrive
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from tests.steps.books import faults
from tests.sweep.day import TASKS, begin
from tests.sweep.world import Life, World, later

SEED = int(os.environ.get("OPERATORS_SEED", "20260302"))
SCHEDULES, CHUNKS = 24, 2
SCOPES = (Scope(), Scope(tenant="default"))
MOMENTS_S = (0, 1, 3, 30, 60, 120, 130, 150, 180, 240, 400)
"""After a process began: around acceptance, calls, drains, creations and ends of batches. Others lie in between."""


async def order(life: Life, dice: Random) -> None:
    """One order, of whatever kind."""
    rows = list(life.engine.tasks.scan())
    match dice.choice((0, 0, 0, 1, 1, 2, 3, 3)):
        case 0:
            names = [("default", each["task_id"]) for each in dice.sample(TASKS, dice.randint(1, 3))]
            try:
                cancel_tasks(life.system, names)
            except Contended:
                life.system.metrics.log("contended")
        case 1:
            if batches := life.system.batches.active():
                stop_batch(life.system, dice.choice(batches).batch_id, dice.choice(list(Unanswered)))
        case 2:
            scope = dice.choice(SCOPES)
            event = dice.choice((Place(scope, "because"), Lift()))
            life.system.holds.apply([Change(scope.text, event)], life.system.clock.now())
        case _:
            dead = [(row.tenant, row.task_id) for row in rows if row.state is TaskState.DEAD or row.redriving]
            redrive(life.system, dead)


def shift(dice: Random, moments: list[float]):
    async def story(life: Life) -> None:
        async def operator() -> None:
            passed = 0.0
            while moments:
                await life.pass_time(max(0.0, moments[0] - passed))
                passed = max(passed, moments.pop(0))
                await order(life, dice)

        async with asyncio.TaskGroup() as group:
            at_work = group.create_task(operator())
            await life.work()
            at_work.cancel()

    return story


def day(directory, number: int) -> World:
    """Ends when every order was given and everything has its end."""
    dice = Random(f"{SEED} {number}")
    world = begin(directory)
    world.voids = dice.random() < 0.5
    for _ in range(dice.randint(1, 3)):
        plan = CrashPlan(dice.randint(1, 400), dice.choice(list(Side)))
        moments = sorted(dice.choice(MOMENTS_S) + dice.random() for _ in range(dice.randint(1, 4)))
        try:
            world.live(shift(dice, moments), plan)
        except Crash:
            later(world.clock, dice.choice((0, 1, 45, 400, 5_000)))
    world.live(lambda life: order_again(life, dice))
    assert world.work()
    return world


async def order_again(life: Life, dice: Random) -> None:
    """What is held is let go. What a redrive left unsent, and what a cancel left untold, is mended by giving the order
    again."""
    holds = [Change(row.key, Lift()) for row in life.system.holds.active()]
    life.system.holds.apply(holds, life.system.clock.now())
    rows = list(life.engine.tasks.scan())
    redrive(life.system, [(row.tenant, row.task_id) for row in rows if row.redriving])
    cancel_tasks(life.system, [(row.tenant, row.task_id) for row in rows if row.state is TaskState.CANCELLED])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_operators_order_every_task_has_one_record_and_the_books_hold(tmp_path, chunk):
    broken = []
    seen = set()
    for number in range(chunk, SCHEDULES, CHUNKS):
        world = day(tmp_path / str(number), number)
        broken += [f"OPERATORS_SEED={SEED} schedule {number}: {fault}" for fault in faults(world)]
        world.live(lambda life: note(life, seen))
    assert broken == []
    assert seen == {"answered", "dead", "cancelled", "redriven", "in vain"}


async def note(life: Life, seen: set[str]) -> None:
    for row in life.engine.tasks.scan():
        seen.add(row.state.value)
        if row.generation:
            seen.add("redriven")
        if row.state is TaskState.CANCELLED and row.repaid:
            seen.add("in vain")
