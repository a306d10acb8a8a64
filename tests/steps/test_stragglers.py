"""A drain that sleeps longer than its lease: whatever the others did meanwhile, none of its tasks is stranded."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from lowtide.core.tasks import ClaimPart, TaskState
from lowtide.core.tiers import Tier
from lowtide.steps.drain import drain
from lowtide.steps.seal import seal
from lowtide.steps.turns import submit_due
from lowtide_local.engine.crashes import Crash, Side
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.sweep.world import Dies, Life, World, task

NAMES = ("a", "b", "c")
COMPANY = "company"
LEASE_S = 901


class SleepyTasks:
    """Rows whose first claim for a part is preceded, or followed, by a long sleep of the process that makes it."""

    def __init__(self, tasks, sleep, side):
        self._tasks, self._sleep, self._side = tasks, sleep, side
        self.get = tasks.get

    def apply(self, changes, now):
        claims = any(isinstance(change.event, ClaimPart) for change in changes)
        sleep, self._sleep = (self._sleep, None) if claims else (None, self._sleep)
        if sleep is not None and self._side is Side.BEFORE:
            sleep()
        decisions = self._tasks.apply(changes, now)
        if sleep is not None and self._side is Side.AFTER:
            sleep()
        return decisions


async def seal_only(other: Life) -> None:
    await other.pass_time(LEASE_S)
    seal(other.system, flush=True)


async def until_it_runs(other: Life) -> None:
    await seal_only(other)
    await submit_due(other.system)


async def until_the_batch_is_done(other: Life) -> None:
    """By a poller alone: nobody drains, so nobody receives our messages a second time."""
    await until_it_runs(other)
    for _ in range(60):
        await other.collect()
        await other.pass_time(60)
    assert not other.system.batches.active()


async def until_all_is_done(other: Life) -> None:
    await seal_only(other)
    await other.finish()


def begin(tmp_path, *, company: bool = False) -> World:
    """With company, a part that was drained well waits beside ours, so that there is a batch in any case."""
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=300, max_s=300)), voids=False)
    if company:
        world.publish(task(COMPANY, "content_generation"))
        world.live(drained)
    world.publish(*(task(name, "content_generation") for name in NAMES))
    return world


async def drained(life: Life) -> None:
    life.accept()
    drain(life.system)


def sleepy(world: World, life: Life, meanwhile, side: Side = Side.BEFORE) -> Life:
    tasks = SleepyTasks(life.system.tasks, lambda: world.meanwhile(life, meanwhile), side)
    return replace(life, system=replace(life.system, tasks=tasks))


async def assert_all_is_well(world: World, life: Life) -> None:
    for _ in range(40):
        await life.assemble()
        await life.finish()
        if not life.waiting(Tier.LOW):
            break
        await life.pass_time(LEASE_S)
    rows = {row.task_id: row for row in life.engine.tasks.scan()}
    assert {name: row.state for name, row in rows.items()} == dict.fromkeys(rows, TaskState.ANSWERED)
    assert set(rows) >= set(NAMES)
    assert {name: row.attempt for name, row in rows.items()} == dict.fromkeys(rows, 1)
    world.provider.progress()
    assert len(world.provider.billed) == len(rows)
    assert life.engine.ledger.total().duplicates == 0
    assert world.provider.state()["files"] == []


MEANWHILE = (seal_only, until_it_runs, until_the_batch_is_done, until_all_is_done)


@pytest.mark.parametrize("company", [False, True])
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("side", list(Side))
def test_a_drain_that_sleeps_through_its_lease_at_its_claims_strands_nothing(tmp_path, meanwhile, side, company):
    world = begin(tmp_path, company=company)

    async def story(life: Life) -> None:
        life.accept()
        drain(sleepy(world, life, meanwhile, side).system)
        await assert_all_is_well(world, life)

    world.live(story)


@pytest.mark.parametrize("company", [False, True])
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("call", ["tasks.apply", "parts.apply", "low.delete", "low.defer"])
@pytest.mark.parametrize("side", list(Side))
def test_a_drain_that_overslept_and_then_dies_strands_nothing_either(tmp_path, meanwhile, company, call, side):
    world = begin(tmp_path, company=company)

    async def first(life: Life) -> None:
        life.accept()
        drain(sleepy(world, life, meanwhile).system)

    nth = 2 if call == "parts.apply" else 1  # its first one opens the part
    with pytest.raises(Crash):
        world.live(first, Dies(call, side, nth))
    world.live(lambda life: assert_all_is_well(world, life))


def test_what_a_batch_had_already_sent_is_not_carried_into_another(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        life.accept()
        drain(sleepy(world, life, until_it_runs, Side.AFTER).system)
        [running] = life.system.batches.active()
        assert running.requests == len(NAMES)
        await assert_all_is_well(world, life)
        assert len(world.provider.state()["batches"]) == 1

    world.live(story)


def test_only_what_the_batch_did_not_send_is_carried_however_its_lines_were_sorted(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=300, max_s=300)), voids=False)
    company = [f"{COMPANY}-{number}" for number in range(6)]
    world.publish({"tasks": [task(name, "content_generation", f"{10 - n} {name}") for n, name in enumerate(company)]})
    world.live(drained)
    world.publish(*(task(name, "content_generation") for name in NAMES))

    async def story(life: Life) -> None:
        life.accept()
        drain(sleepy(world, life, until_it_runs).system)
        [running] = life.system.batches.active()
        assert running.manifest_key is not None
        offsets = [orjson.loads(line)["offset"] for line in life.system.objects.lines(running.manifest_key)]
        assert len(offsets) == len(company)
        assert offsets != sorted(offsets)
        await life.pass_time(400)
        await life.collect()
        [carried] = life.system.parts.active()
        assert carried.tasks == len(NAMES)
        await assert_all_is_well(world, life)

    world.live(story)


def test_an_empty_batch_leaves_alone_what_another_took_of_the_parts_that_it_wanted(tmp_path):
    world = begin(tmp_path)

    async def first(life: Life) -> None:
        life.accept()
        drain(life.system)
        seal(life.system, flush=True)

    with pytest.raises(Crash):
        world.live(first, Dies("batches.apply", Side.AFTER))  # a batch that wants the part, and has not taken it yet
    # The second batch wants it too, beside a part in which every line is a duplicate.
    world.publish(*(task(name, "content_generation") for name in NAMES))

    async def story(life: Life) -> None:
        life.accept()
        await life.finish()
        assert len(world.provider.state()["batches"]) == 1

    world.live(story)
    world.provider.progress()
    assert len(world.provider.billed) == len(NAMES)
