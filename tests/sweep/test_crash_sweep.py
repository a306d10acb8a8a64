"""The day with the process dying at every call to a port, and at random pairs of them.

Replay a failing random schedule with the seed and the number that it names: ``SWEEP_SEED=… pytest tests/sweep``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from lowtide.core.errors import Unfinished
from lowtide_local.engine.crashes import CrashPlan, Side, every_crash
from tests.sweep.audit import faults
from tests.sweep.counts import uncounted
from tests.sweep.day import begin
from tests.sweep.refusals import RaisesAt
from tests.sweep.troubles import service_of
from tests.sweep.world import Life, World, later

EVERY = 37
"""One in so many of these crashes is played: over HTTP each takes a second, and `make sweep` plays all without it."""

RAISED_EVERY = 36
"""The same for the calls that raise: `make sweep` and `make sweep-consumer` raise at the others."""

CHUNKS = 4
"""Tests that the sweep is cut into, so that they run side by side."""

READS = ("depth", "active", "get", "lines", "open", "find", "results")
"""What changes nothing: to die after it is to die before it."""

SCHEDULES = 16
"""Few, through the adapters and over HTTP; the thousands are drawn in ``schedules.py``."""

SEED = int(os.environ.get("SWEEP_SEED", "20260302"))
DOWN_S = (0, 1, 45, 400, 5_000)
"""How long nobody is at work after a crash: shorter and longer than the provider's list lags and leases run."""


def clean_calls(directory: Path) -> list[str]:
    """The calls of a day without a crash, which ends as it should."""
    world, plan = begin(directory), CrashPlan()
    assert world.work(plan)
    assert faults(world) == []
    assert world.live(all_counted)
    return plan.calls


async def all_counted(life: Life) -> bool:
    """To the last cent and try: what no crash took from the metrics is in them."""
    return uncounted(life.world.metrics, life.system, life.engine) == {}


def test_the_day_reaches_every_step_of_the_way_through(tmp_path):
    reached = set(clean_calls(tmp_path))
    assert reached >= {
        *("intake.delete", "critical.delete", "high.defer", "normal.delete", "low.delete", "dead_letters.send"),
        *("objects.put", "objects.lines", "objects.open", "tasks.apply", "parts.apply", "batches.apply", "ledger.put"),
        *(f"batch_apis.openai.{name}" for name in ("prepare", "create", "find", "get", "results", "clean")),
        *("answers.openai.answer", "replies.send", "events.send", "callbacks.send"),
    }


def test_two_days_without_a_crash_make_the_same_calls_in_the_same_order(tmp_path):
    assert clean_calls(tmp_path / "one") == clean_calls(tmp_path / "two")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_crash_before_or_after_any_call_loses_nothing_and_pays_for_nothing_twice(tmp_path, chunk):
    calls = clean_calls(tmp_path / "clean")
    broken = []
    plans = [plan for plan in every_crash(len(calls)) if plan.side is Side.BEFORE or not _reads(calls[plan.at - 1])]
    for plan in plans[chunk * EVERY :: CHUNKS * EVERY]:
        world = begin(tmp_path / f"{plan.at}-{plan.side.name}")
        assert not world.work(plan), f"{plan} never came"
        assert world.work()
        broken += [f"{plan}: {fault}" for fault in faults(world)]
    assert broken == []


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_port_that_raises_at_any_call_loses_nothing_and_pays_for_nothing_twice(tmp_path, chunk):
    """Whatever ends for it tidies up behind itself, which a process that dies does not."""
    calls = clean_calls(tmp_path / "clean")
    broken = []
    places = [at for at, name in enumerate(calls, start=1) if service_of(name) is not None]
    for at in places[chunk * RAISED_EVERY :: CHUNKS * RAISED_EVERY]:
        plan = RaisesAt(at, f"{SEED} {at}")
        world = begin(tmp_path / str(at))
        ended = worked(world, plan)
        assert plan.error is not None, f"{at} never came"
        assert ended or worked(world)
        broken += [f"SWEEP_SEED={SEED} {plan}: {fault}" for fault in faults(world)]
    assert broken == []


def worked(world: World, plan: RaisesAt | None = None) -> bool:
    """False where the process ended with what its port had raised."""
    try:
        return world.work(plan)
    except BaseExceptionGroup as group:
        if (
            plan is None
            or group.split(lambda error: error is plan.error or isinstance(error, Unfinished))[1] is not None
        ):
            raise
        return False


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_two_crashes_anywhere_lose_nothing_and_pay_for_nothing_twice(tmp_path, chunk):
    calls = len(clean_calls(tmp_path / "clean"))
    broken = []
    for number in range(chunk, SCHEDULES, CHUNKS):
        dice = Random(f"{SEED} {number}")
        world = begin(tmp_path / str(number))
        # Without voiding, leases and claims of the dead are waited out, as on AWS.
        world.voids = dice.random() < 0.5
        plans = list(_plans(dice, calls))
        for plan in plans:
            world.work(plan)
            later(world.clock, dice.choice(DOWN_S))
        assert world.work()
        broken += [f"SWEEP_SEED={SEED} schedule {number}, {plans}: {fault}" for fault in faults(world)]
    assert broken == []


def _reads(call: str) -> bool:
    return call.rpartition(".")[2] in READS


def _plans(dice: Random, calls: int) -> Iterator[CrashPlan]:
    for _ in range(2):
        yield CrashPlan(dice.randint(1, calls), dice.choice(list(Side)))
