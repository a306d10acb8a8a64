"""Deadlines shorter than a day: what history lets into a batch, and what becomes of work that none brings in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from lowtide.core.batches import BatchState, ProviderStatus, Unanswered
from lowtide.core.lanes import Lane
from lowtide.core.parts import RESCUED, Finish, Lot
from lowtide.core.records import Status
from lowtide.core.task import Endpoint
from lowtide.core.tiers import Tier
from lowtide.ports import Change
from lowtide.steps.cancel import CancelOutcome, cancel_tasks, stop_batch
from lowtide.steps.drain import drain
from lowtide.steps.outlook import Outlook, note_duration
from lowtide.steps.rescue import rescue_parts
from lowtide.steps.seal import seal
from lowtide_local.engine.crashes import Side
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario, Window, WindowKind
from tests.contract.cases import batch, provider_batch
from tests.steps.test_late_claims import Stalls
from tests.sweep.world import START, Dies, World, later, routes, task, with_batching

HOUR_S = 3_600
TWO_HOURS = 2 * HOUR_S
LOT = Lot(provider="openai", model="gpt-5-mini", endpoint=Endpoint.CHAT)
QUICK = Scenario(batch=BatchWeather(min_s=120, max_s=120))
NEVER = Scenario(batch=BatchWeather(min_s=600, max_s=600, mishaps=(Mishap(kind=MishapKind.NEVER_ENDS),)))


def low(name: str, deadline_s: int = TWO_HOURS, **changes):
    return task(name, "content_generation", deadline_seconds=deadline_s, **changes)


def begin(tmp_path, scenario: Scenario, *tasks, **options) -> World:
    world = World(tmp_path, scenario, **options)
    world.publish({"tasks": list(tasks)})
    return world


def remember(life, seconds: float, batches: int = 20) -> None:
    """So many batches that took so long."""
    for number in range(batches):
        ended = provider_batch(ProviderStatus.COMPLETED)
        began = START - timedelta(days=1)
        took = began + timedelta(seconds=seconds)
        changes = {"submitted_at": began, "collected_at": took, "provider_batch": ended, "requests": 1}
        note_duration(life.system, batch(number, lot=LOT, **changes))


def record(world: World, name: str):
    async def look(life):
        return life.record(name)

    return world.live(look)


@pytest.mark.parametrize(("batches_took_s", "lane"), [(60, Lane.BATCH), (3 * HOUR_S, Lane.FLEX)])
def test_a_deadline_of_forty_minutes_is_batched_where_history_says_that_a_batch_makes_it(
    tmp_path, batches_took_s, lane
):
    world = begin(tmp_path, QUICK, low("a", 40 * 60))

    async def seen(life):
        remember(life, batches_took_s)

    world.live(seen)
    assert world.work()
    ended = record(world, "a")
    assert (ended.lane, ended.deadline_met) == (lane, True)
    assert ("due too soon for another batch" in ended.route) is (lane is Lane.FLEX)


@pytest.mark.parametrize(("batches_took_s", "minutes_before"), [(600, 35), (5_400, 115)])
def test_a_batch_is_sealed_early_enough_for_those_of_its_kind_to_end_in_time(tmp_path, batches_took_s, minutes_before):
    """25 minutes for a rescue, and what nine in ten batches took: however long it might wait for company."""
    world = begin(tmp_path, QUICK, low("a", 4 * HOUR_S), routes=with_batching(max_wait_s=86_400))

    async def story(life):
        remember(life, batches_took_s)
        life.accept()
        drain(life.system)
        await life.pass_time(4 * HOUR_S - minutes_before * 60 - 60)
        assert seal(life.system) == []
        await life.pass_time(60)
        [sealed] = seal(life.system)
        assert sealed.requests == 1

    world.live(story)


def test_while_the_account_is_refused_work_stays_where_nothing_deletes_it(tmp_path):
    """A queue keeps messages for ten days, parts and batches keep them for as long as it takes."""
    refused = Window(kind=WindowKind.QUOTA, from_s=0, to_s=12 * 86_400)
    world = begin(tmp_path, Scenario(windows=(refused,)), low("a"), low("b"))

    async def story(life):
        life.accept()
        for _ in range(13 * 24):
            await life.assemble()
            await life.collect()
            if life.system.clock.now() < START + timedelta(days=12):
                assert life.waiting(Tier.NORMAL) == 0
            await life.pass_time(HOUR_S)

    world.live(story)
    assert world.work()
    ended = [record(world, name) for name in ("a", "b")]
    assert [(each.status, each.deadline_met) for each in ended] == [(Status.ANSWERED, False)] * 2


def test_a_batch_that_was_put_off_until_its_rescue_would_begin_is_never_created(tmp_path):
    """The provider takes nothing for an hour and a half, and then answers calls again."""
    storm = Window(kind=WindowKind.RATE_LIMIT, from_s=0, to_s=5_690)
    world = begin(tmp_path, Scenario(windows=(storm,)), low("a"), low("b", 86_400))

    async def story(life):
        life.accept()
        for _ in range(100):
            await life.assemble()
            await life.collect()
            await life.pass_time(60)
            if not life.system.batches.active() or life.system.clock.now() > START + timedelta(seconds=5_690):
                break
        await life.assemble()
        await life.collect()
        await life.pass_time(300)  # until nothing can have come of the last try, and the account is probed again
        await life.assemble()
        await life.collect()
        await life.answer(Tier.NORMAL)
        return list(life.engine.batches.scan())

    first = world.live(story)[0]
    assert (first.state, first.tally.rescued, first.tally.retried) == (BatchState.DONE, 1, 1)
    assert first.provider_batch.id == ""
    assert first.rescued_at is not None
    ended = record(world, "a")
    assert (ended.lane, ended.deadline_met, ended.attempts) == (Lane.FLEX, True, 2)
    assert f"rescued from slow batch {first.batch_id}" in ended.route
    assert world.work()
    assert record(world, "b").lane is Lane.BATCH
    assert world.provider.state()["files"] == []


def test_a_task_that_the_account_has_no_room_for_in_a_batch_is_called_for_in_time_and_is_no_culprit(tmp_path):
    """Alone in a batch that is refused for its tokens again and again, until there is no time to wait once more."""
    full = Mishap(kind=MishapKind.TOKEN_LIMIT)
    world = begin(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60, mishaps=(full,))), low("a"))
    assert world.work()
    ended = record(world, "a")
    assert (ended.status, ended.lane, ended.deadline_met) == (Status.ANSWERED, Lane.FLEX, True)
    assert len(world.provider.state()["batches"]) > 1


def test_what_a_rescue_cost_over_a_batch_is_in_the_record_the_ledger_and_the_metrics(tmp_path):
    """A model without flex: the rescued answer is at list price, twice what the batch would have cost."""
    world = begin(tmp_path, NEVER, low("a", model="gpt-4o-mini"), low("b", model="gpt-5-mini"))
    assert world.work()
    dear, same = record(world, "a"), record(world, "b")
    assert (dear.lane, same.lane) == (Lane.DEFAULT, Lane.FLEX)
    premium = dear.cost_usd / 2
    assert dear.route.endswith(f"${premium:f} over a batch")
    assert "over a batch" not in same.route

    async def look(life):
        return life.engine.ledger.total()

    total = world.live(look)
    assert (total.rescued, total.premium_usd) == (2, premium)
    assert world.metrics.total("tasks_rescued") == 2
    assert world.metrics.total("batches_rescued") == 2
    assert Decimal(str(world.metrics.total("rescue_premium_usd"))) == premium


def test_a_batch_that_an_operator_stopped_says_nothing_of_the_next(tmp_path):
    scenario = Scenario(batch=BatchWeather(min_s=HOUR_S, max_s=HOUR_S))
    world = begin(tmp_path, scenario, low("a", 86_400))

    async def story(life):
        life.accept()
        await life.assemble()
        before = Outlook(life.system).eta(LOT, 1)
        stop_batch(life.system, life.batch().batch_id, Unanswered.CANCEL)
        await life.finish()
        assert Outlook(life.system).eta(LOT, 1) == before

    world.live(story)
    assert record(world, "a").status is Status.CANCELLED


def test_a_batch_that_ended_is_remembered_once(tmp_path):
    world = begin(tmp_path, QUICK, low("a", 86_400))
    assert not world.work(Dies("objects.put", Side.AFTER, nth=5))  # part, file, manifest, shard, history
    assert world.work()

    async def look(life):
        return Outlook(life.system).eta(LOT, 1).samples

    samples = world.live(look)
    assert len(samples) == 21
    assert 120 in samples


def test_a_task_that_is_cancelled_between_its_row_and_its_message_has_its_record_all_the_same(tmp_path):
    world = begin(tmp_path, NEVER, low("a"), low("b"), low("c"))
    assert not world.work(Dies("normal.send"))  # one was answered in the batch, two are freed

    async def cancelled(life):
        return cancel_tasks(life.system, [("default", "b")])

    assert world.live(cancelled) == [CancelOutcome.CANCELLING]
    assert world.work()
    assert record(world, "b").status is Status.CANCELLED
    assert record(world, "c").status is Status.ANSWERED
    assert len([line for line in world.provider.billed if line.batch_id is None]) == 1


def test_a_part_that_cannot_be_read_keeps_the_others_from_nothing(tmp_path):
    world = begin(tmp_path, QUICK, low("a"), low("b", model="gpt-4o-mini"))

    async def story(life):
        life.accept()
        drain(life.system)
        broken = next(part for part in life.system.parts.active() if part.lot == LOT)
        life.system.objects.put(broken.object_key, b"no line\n")
        await life.pass_time(TWO_HOURS - 1_500)
        with pytest.raises(ExceptionGroup, match="1 steps of the assembler failed"):
            await life.assemble()
        assert [part.part_id for part in life.system.parts.active()] == [broken.part_id]
        await life.answer(Tier.NORMAL)
        assert life.record("b").lane is Lane.DEFAULT

    world.live(story)
    assert "part_step_failed" in world.metrics.events()


class Asleep(Exception):
    pass


class SleepsBeforeItsLastWrite:
    """A ports.Parts for whoever rescues a part."""

    def __init__(self, parts):
        self._parts = parts

    def active(self):
        return self._parts.active()

    def apply(self, changes, now):
        if isinstance(changes[0].event, Finish):
            raise Asleep
        return self._parts.apply(changes, now)


async def rescued_to_its_end(life):
    assert rescue_parts(life.system) == []


async def rescuer_fell_asleep(life):
    sleepy = replace(life.system, parts=SleepsBeforeItsLastWrite(life.system.parts))
    [error] = rescue_parts(sleepy)
    assert isinstance(error, Asleep)


@pytest.mark.parametrize("meanwhile", [rescued_to_its_end, rescuer_fell_asleep])
def test_a_task_claimed_while_its_part_was_rescued_is_not_stranded(tmp_path, meanwhile):
    world = World(tmp_path, QUICK, voids=False)
    names = [f"t{number}" for number in range(5)]
    world.publish({"tasks": [low(name, HOUR_S) for name in names]})

    async def other(life):
        # Past the lease, and 20 minutes before the deadline.
        await life.pass_time(2_400)
        await meanwhile(life)

    async def story(life):
        life.accept()
        slow = replace(life.system, tasks=Stalls(life.system.tasks, lambda: world.meanwhile(life, other)))
        drain(slow)
        assert life.row("t4").state == "staged"
        # Whoever slept wakes up and goes on, without another look at the lines.
        ids = [part.part_id for part in life.system.parts.active()]
        life.system.parts.apply([Change(part_id, Finish(RESCUED)) for part_id in ids], life.system.clock.now())

    world.live(story)
    assert world.work()
    later(world.clock, routes().batching.lease_s)
    assert world.work()
    assert {name: record(world, name).status for name in names} == dict.fromkeys(names, Status.ANSWERED)
    assert len(world.provider.billed) == 5
