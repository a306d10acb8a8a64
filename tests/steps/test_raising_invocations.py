"""One invocation of a consumer, with a port that raises at each of its calls: it ends in time and keeps nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from lowtide.core.tasks import SETTLED
from lowtide.core.tiers import Tier
from lowtide.ports import Message
from lowtide.steps.answer import answer
from lowtide.steps.gate import Gate
from lowtide.steps.slots import Slots
from lowtide_local.engine.crashes import CrashPlan
from tests.steps.books import faults
from tests.steps.one_tier import slow
from tests.steps.test_asking import asking, paying
from tests.sweep.refusals import RaisesAt
from tests.sweep.troubles import service_of
from tests.sweep.world import Awaited, Life, World, task

SLOTS = 3
INVOCATION_S = 295
NORMAL = "meeting_summary"
TASKS = (
    Awaited(task("plain", NORMAL, reply_to="https://queue/replies"), "token"),
    task("again", NORMAL, "[sim:500-once]"),
    task("dead", NORMAL, "[sim:refuse]"),
    task("large", NORMAL, tags={"note": "x" * 120_000}),
    {"tasks": [task("first", NORMAL), task("second", NORMAL, "[sim:refuse]"), task("third", NORMAL)]},
    paying("asks", "document_analysis"),
    paying("hands-on", "report_generation"),
)
CHUNKS = 4
EVERY = 2
"""One in so many of the calls is raised at: the sweeps raise at the others."""


def begin(directory: Path) -> World:
    world = World(directory, slow(2), routes=asking())
    for each in TASKS:
        world.publish(each)
        world.live(accepted)
    return world


async def accepted(life: Life) -> None:
    life.accept()


async def invoked(life: Life) -> list[str]:
    """What the invocation left undone that it should not have."""
    slots, gate, queue = Slots(SLOTS), Gate(life.system), life.engine.queue(Tier.NORMAL.value)
    messages: list[Message] = queue.receive(10, visibility_s=600)
    began = life.system.clock.now()
    report = await answer(
        life.system, Tier.NORMAL, messages, slots=slots, gate=gate, stop_at=began + timedelta(seconds=INVOCATION_S)
    )
    took_s = (life.system.clock.now() - began).total_seconds()
    left = [f"it took {took_s} s"] if took_s > INVOCATION_S + 1 else []
    if Counter(each.id for each in (*report.done, *report.again)) != Counter(each.id for each in messages):
        left.append("a message has no end, or two")
    if slots.held:
        left.append(f"{slots.held} slots are taken")
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        left.append(f"{len(others)} tasks of the loop are left")
    if waiting := [line for line in gate._lines.values() if line._waiting or line._pump is not None]:
        left.append(f"{len(waiting)} lines still ask for a moment")
    queue.delete(report.done)
    return left


async def to_the_end(life: Life) -> None:
    for _ in range(60):
        await life.answer(Tier.NORMAL, visibility_s=600)
        await life.finish()
        if not life.waiting(Tier.NORMAL) and not life.waiting(Tier.LOW):
            return
        await life.pass_time(60)
    raise AssertionError("there is no end to it")


def calls_of_one(directory: Path) -> list[str]:
    plan = CrashPlan()
    assert begin(directory).live(invoked, plan) == []
    return plan.calls


def test_the_invocation_makes_every_kind_of_call(tmp_path):
    assert {name for name in calls_of_one(tmp_path) if service_of(name)} >= {
        *("tasks.apply", "paces.get", "paces.apply", "objects.put", "ledger.put", "normal.defer", "low.send"),
        *("dead_letters.send", "replies.send", "events.send", "callbacks.send", "levels.look"),
    }


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_an_invocation_whose_port_raises_ends_in_its_time_and_keeps_no_slot_no_moment_and_no_message(tmp_path, chunk):
    calls = calls_of_one(tmp_path / "clean")
    places = [at for at, name in enumerate(calls, start=1) if service_of(name) is not None]
    broken = []
    for at in places[chunk * EVERY :: CHUNKS * EVERY]:
        plan = RaisesAt(at, f"one invocation {at}")
        world = begin(tmp_path / str(at))
        left = world.live(invoked, plan)
        assert plan.error is not None
        world.live(to_the_end)
        rows = world.live(_rows)
        left += [f"{row} is {state}" for row, state in rows.items() if state not in SETTLED]
        broken += [f"{plan}: {fault}" for fault in [*left, *faults(world)]]
    assert broken == []


async def _rows(life: Life) -> dict[str, object]:
    return {row.task_id: row.state for row in life.engine.tasks.scan()}
