"""Slow batches and near deadlines, in virtual time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.batches import BatchState, ProviderStatus
from lowtide.core.errors import ProviderRefused, Unreachable
from lowtide.core.lanes import Lane
from lowtide.core.records import Status
from lowtide.steps.drain import drain
from lowtide_local.engine.crashes import CrashPlan, Side, every_crash
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.sweep.world import Dies, World, later, task

TWO_HOURS = 7_200
HOUR_S = 3_600
DAY_S = 86_400

READS = ("depth", "active", "get", "lines", "open", "find", "results", "owned", "receive")


def low(number: int, deadline_s: int = TWO_HOURS, text: str = "Hello."):
    return task(f"t{number}", "content_generation", text, deadline_seconds=deadline_s)


def slow(**weather) -> Scenario:
    """Batches that would take ten hours and, cancelled, take eight minutes to say so."""
    return Scenario(batch=BatchWeather(**{"min_s": 10 * HOUR_S, "max_s": 10 * HOUR_S, "cancel_s": 480} | weather))


def never(**weather) -> Scenario:
    return slow(mishaps=(Mishap(kind=MishapKind.NEVER_ENDS),), **weather)


def begin(directory, scenario, *tasks) -> World:
    world = World(directory, scenario)
    world.publish({"tasks": list(tasks)})
    return world


async def drained(life):
    life.accept()
    drain(life.system)


def ends(world, count):
    async def look(life):
        return [life.record(f"t{n}") for n in range(count)], [life.row(f"t{n}") for n in range(count)]

    return world.live(look)


def batches(world):
    async def look(life):
        return list(life.engine.batches.scan())

    return world.live(look)


def faults(world, count):
    """One record a task, nothing billed twice beyond ``repaid``, nothing left over."""
    records, rows = ends(world, count)
    billed = [line.id for line in world.provider.billed]
    extra = len(billed) - sum(record.status is Status.ANSWERED for record in records)
    if extra > sum(row.repaid for row in rows):
        yield f"{extra} lines were billed beside the answers"
    batched = [str(line.id).rpartition("-")[0] for line in world.provider.billed if line.batch_id is not None]
    if len(batched) != len(set(batched)):
        yield "a batched line was billed twice"
    yield from (f"{record.task_id} is {record.status}" for record in records if record.status is not Status.ANSWERED)
    yield from (f"{file['filename']} is left" for file in world.provider.state()["files"])

    async def look(life):
        total = life.engine.ledger.total()
        return total.tasks, total.cost_usd, total.repaid

    ledger = (count, sum(record.cost_usd for record in records), sum(row.repaid for row in rows))
    if world.live(look) != ledger:
        yield f"the ledger says {world.live(look)}, the records {ledger}"


def test_a_slow_batch_is_cancelled_in_time_and_only_the_rest_is_bought_on_a_faster_lane(tmp_path):
    world = begin(tmp_path, slow(), *(low(number) for number in range(20)))
    assert world.work()
    records, rows = ends(world, 20)
    assert all(record.deadline_met for record in records)
    [batch] = batches(world)
    assert batch.provider_batch.status is ProviderStatus.CANCELLED
    assert 0 < batch.tally.answered < 20
    assert batch.tally.rescued == 20 - batch.tally.answered
    assert batch.tally.retried == 0
    rescued = [record for record, row in zip(records, rows, strict=True) if row.rescued_from == batch.batch_id]
    assert len(rescued) == batch.tally.rescued
    assert {record.lane for record in rescued} == {Lane.FLEX}
    assert all("rescued from slow batch batch_" in record.route for record in rescued)
    assert len(world.provider.billed) == 20
    assert list(faults(world, 20)) == []


def test_what_has_time_for_another_batch_goes_into_it_and_pays_no_premium(tmp_path):
    first_only = Mishap(kind=MishapKind.SLOW, batches=(1,), factor=60)
    weather = slow(min_s=600, max_s=600, mishaps=(first_only,))
    world = begin(tmp_path, weather, *(low(number) for number in range(10)), *(low(n, DAY_S) for n in range(10, 20)))
    assert world.work()
    records, rows = ends(world, 20)
    assert all(record.deadline_met for record in records)
    assert {record.lane for record in records[10:]} == {Lane.BATCH}
    assert [row.rescued_from for row in rows[10:]] == [None] * 10
    first, second = batches(world)
    assert (first.tally.rescued > 0, first.tally.retried > 0, second.requests) == (True, True, first.tally.retried)
    assert list(faults(world, 20)) == []


def test_with_no_time_left_for_flex_default_is_taken_and_the_record_says_what_it_cost(tmp_path):
    world = begin(tmp_path, slow(cancel_s=2_000), *(low(number) for number in range(10)))
    assert world.work()
    records, rows = ends(world, 10)
    rescued = [record for record, row in zip(records, rows, strict=True) if row.rescued_from]
    assert {record.lane for record in rescued} == {Lane.DEFAULT}
    assert all("default, as" in record.route and record.cost_usd == record.list_cost_usd for record in rescued)
    assert {record.deadline_met for record in rescued} == {False}
    assert {record.deadline_met for record in records if record.lane is Lane.BATCH} <= {False}


class FailingCancel:
    """Its first cancels fail, after they took effect or before."""

    def __init__(self, api, error, *, times, takes_effect):
        self._api = api
        self._error = error
        self._times = times
        self._takes_effect = takes_effect
        self.asked = 0

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def cancel(self, provider_batch_id):
        self.asked += 1
        if self.asked <= self._times:
            if self._takes_effect:
                await self._api.cancel(provider_batch_id)
            raise self._error
        await self._api.cancel(provider_batch_id)


@pytest.mark.parametrize("takes_effect", [False, True])
@pytest.mark.parametrize("error", [Unreachable("no reply"), ProviderRefused(500, "server_error", "try again")])
def test_a_cancel_that_is_lost_or_refused_is_asked_again_until_the_batch_says_so(
    tmp_path, monkeypatch, error, takes_effect
):
    world = begin(tmp_path, slow(), *(low(number) for number in range(10)))
    wired = world._system
    failing = []

    def system(*args):
        made = wired(*args)
        failing.append(FailingCancel(made.batch_apis["openai"], error, times=2, takes_effect=takes_effect))
        made.batch_apis["openai"] = failing[-1]
        return made

    monkeypatch.setattr(world, "_system", system)
    assert world.work()
    assert failing[0].asked == (1 if takes_effect else 3)
    records, _ = ends(world, 10)
    assert all(record.deadline_met for record in records)
    assert list(faults(world, 10)) == []


def test_a_batch_that_completes_while_it_is_to_be_cancelled_is_collected_whole(tmp_path):
    """The intent is written, and before the cancel arrives the batch has ended."""
    world = begin(tmp_path, slow(min_s=6_000, max_s=6_000), *(low(number) for number in range(5)))
    assert not world.work(Dies("batch_apis.openai.cancel"))
    later(world.clock, 1_800)
    assert world.work()
    [batch] = batches(world)
    assert batch.rescued_at is not None
    assert (batch.provider_batch.status, batch.tally.answered) == (ProviderStatus.COMPLETED, 5)
    assert len(world.provider.billed) == 5
    assert list(faults(world, 5)) == []


def test_a_batch_that_never_ends_is_given_up_after_48_hours_and_counted_as_repaid(tmp_path):
    world = begin(tmp_path, never(cancel_s=10 * DAY_S), *(low(number) for number in range(5)))
    assert world.work()
    records, rows = ends(world, 5)
    assert [row.repaid for row in rows] == [1] * 5
    assert {(record.status, record.deadline_met) for record in records} == {(Status.ANSWERED, False)}
    [batch] = batches(world)
    assert batch.released
    assert timedelta(hours=48) <= batch.collected_at - batch.submitted_at < timedelta(hours=49)
    # Billed by calls; what the provider may yet bill for the batch is covered by ``repaid``.
    assert [line.batch_id for line in world.provider.billed] == [None] * 5


def test_what_has_days_left_goes_from_a_batch_that_never_ended_into_the_next(tmp_path):
    first_only = Mishap(kind=MishapKind.NEVER_ENDS, batches=(1,))
    weather = slow(min_s=60, max_s=60, mishaps=(first_only,))
    world = begin(tmp_path, weather, *(low(number, 7 * DAY_S) for number in range(3)))
    assert world.work()
    records, rows = ends(world, 3)
    assert {(record.lane, record.attempts, record.deadline_met) for record in records} == {(Lane.BATCH, 2, True)}
    assert [row.repaid for row in rows] == [1] * 3


def test_a_retry_that_could_not_wait_for_another_batch_goes_to_a_call(tmp_path):
    weather = Scenario(batch=BatchWeather(min_s=2_000, max_s=2_000))
    world = begin(tmp_path, weather, low(0, text="[sim:missing-once]"), low(1), low(2, DAY_S, "[sim:missing-once]"))
    assert world.work()
    records, rows = ends(world, 3)
    assert all(record.deadline_met for record in records)
    lanes = [record.lane for record in records]
    assert lanes == [Lane.FLEX if row.rescued_from else Lane.BATCH for row in rows]
    assert rows[2].rescued_from is None
    assert list(faults(world, 3)) == []


def test_a_part_that_waited_too_long_is_divided_and_only_what_is_due_soon_goes_to_a_call(tmp_path):
    world = begin(tmp_path, slow(min_s=300, max_s=300), low(0), low(1, DAY_S))

    world.live(drained)
    later(world.clock, TWO_HOURS - 1_800)
    assert world.work()
    records, rows = ends(world, 2)
    assert (records[0].lane, records[1].lane) == (Lane.FLEX, Lane.BATCH)
    assert "due too soon for another batch" in records[0].route
    assert records[0].deadline_met
    assert rows[0].rescued_from is not None
    assert list(faults(world, 2)) == []


SLOW_FIRST = slow(min_s=300, max_s=300, mishaps=(Mishap(kind=MishapKind.SLOW, batches=(1,), factor=40),))
SOON = 2_700
"""Seconds: time enough to try a batch, and to be rescued from it."""

SCENES = {
    "a slow batch": (SLOW_FIRST, SOON, 0),
    "a part that waited": (slow(min_s=300, max_s=300), TWO_HOURS, TWO_HOURS - 1_800),
}
CHUNKS = 4
EVERY = 3
"""One crash of so many is played here, over HTTP. The sweep plays all of them in its model world."""


def scene(directory, name) -> World:
    scenario, deadline_s, waits_s = SCENES[name]
    world = begin(directory, scenario, *(low(number, deadline_s) for number in range(4)), low(4, DAY_S))
    if waits_s:
        world.live(drained)
        later(world.clock, waits_s)
    return world


@pytest.mark.parametrize("name", sorted(SCENES))
def test_the_scenes_rescue_some_tasks_in_time_and_batch_the_one_that_can_wait(tmp_path, name):
    world = scene(tmp_path, name)
    assert world.work()
    records, rows = ends(world, 5)
    assert list(faults(world, 5)) == []
    assert all(record.deadline_met for record in records)
    rescued = [row.task_id for row in rows if row.rescued_from is not None]
    assert rescued
    assert "t4" not in rescued
    assert records[4].lane is Lane.BATCH


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("name", sorted(SCENES))
def test_a_crash_before_or_after_any_call_of_a_rescue_loses_nothing_and_pays_for_no_line_twice(tmp_path, name, chunk):
    clean = CrashPlan()
    assert scene(tmp_path / "clean", name).work(clean)
    # To die before or after a read is to die after the last write.
    writes = [plan for plan in every_crash(len(clean.calls)) if not _reads(clean.calls[plan.at - 1])]
    broken = []
    for plan in writes[chunk :: CHUNKS * EVERY]:
        world = scene(tmp_path / f"{plan.at}-{plan.side.name}", name)
        # On AWS nobody voids the leases of the dead.
        world.voids = (plan.at + (plan.side is Side.AFTER)) % 2 == 0
        assert not world.work(plan), f"{plan} never came"
        assert world.work()
        broken += [f"{plan}: {fault}" for fault in faults(world, 5)]
        if world.voids:
            # A lease that has to run out may take the time that a rescue needs.
            broken += [f"{plan}: {name} is late" for name in late(world, 5)]
        assert {row.state for row in batches(world)} <= {BatchState.DONE}
    assert broken == []


def late(world, count):
    return [record.task_id for record in ends(world, count)[0] if not record.deadline_met]


def _reads(call):
    return call.rpartition(".")[2] in READS
