"""Held work waits in parts for as long as it takes: nothing is asked, nothing is lost, and a lift lets it go."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.holds import Lift, Place, Scope
from lowtide.core.parts import PartState
from lowtide.core.records import Status
from lowtide.core.tiers import Tier
from lowtide.ports import Change
from lowtide.steps.drain import drain
from lowtide.steps.preserve import AT_ONCE, EVERY, preserve
from lowtide.steps.seal import seal
from lowtide_local.engine.crashes import Crash, Side
from tests.steps.books import faults
from tests.sweep.world import Dies, Life, World, later, task, with_batching

DAY_S = 86_400
ALL, ACME, MINI = Scope(), Scope(tenant="acme"), Scope(model="gpt-5-mini")


def low(name: str, tenant: str = "default", **more: object) -> dict:
    return task(name, "content_generation", tenant=tenant, **more)


def hold(life: Life, scope: Scope) -> None:
    life.system.holds.apply([Change(scope.text, Place(scope, "over budget"))], life.system.clock.now())


def lift(life: Life, scope: Scope) -> None:
    life.system.holds.apply([Change(scope.text, Lift())], life.system.clock.now())


def answered(life: Life) -> set[str]:
    return {row.task_id for row in life.engine.tasks.scan() if row.state == "answered"}


async def turn(life: Life) -> None:
    life.accept()
    await life.assemble()


@pytest.mark.parametrize("scope", [ALL, MINI])
def test_what_is_held_leaves_its_queue_and_waits_in_parts(tmp_path, scope):
    world = World(tmp_path)
    world.publish(low("a"), low("b"))

    async def story(life: Life) -> None:
        hold(life, scope)
        await turn(life)
        assert life.waiting(Tier.LOW) == 0
        assert [(part.state, part.tasks) for part in life.system.parts.active()] == [(PartState.CLOSED, 2)]
        assert life.system.batches.active() == []
        lift(life, scope)
        await life.finish()
        assert answered(life) == {"a", "b"}

    world.live(story)
    assert faults(world) == []


def test_a_tenant_is_held_and_the_others_go_on(tmp_path):
    world = World(tmp_path)
    world.publish({"tasks": [low("a", "acme"), low("g", "globex"), low("h")]}, low("b", "acme"))

    async def story(life: Life) -> None:
        hold(life, ACME)
        for _ in range(30):
            await turn(life)
            await life.collect()
            await life.pass_time(60)
        assert answered(life) == {"g", "h"}
        assert {part.tenant for part in life.system.parts.active()} == {"acme"}
        lift(life, ACME)
        await life.finish()
        assert answered(life) == {"a", "b", "g", "h"}

    world.live(story)
    assert faults(world) == []


def test_a_hold_on_one_model_leaves_the_others_alone(tmp_path):
    world = World(tmp_path)
    world.publish(low("mini"), low("other", model="gpt-4o-mini"))

    async def story(life: Life) -> None:
        hold(life, MINI)
        await turn(life)
        assert [batch.lot.model for batch in life.system.batches.active()] == ["gpt-4o-mini"]
        lift(life, MINI)
        await life.finish()

    world.live(story)
    assert faults(world) == []


def test_a_part_that_a_dead_drain_left_open_is_held_too(tmp_path):
    world = World(tmp_path, voids=False)
    world.publish(low("a"))

    async def begun(life: Life) -> None:
        hold(life, ALL)
        await turn(life)

    with pytest.raises(Crash):
        world.live(begun, Dies("parts.apply", Side.BEFORE, 2))

    async def after(life: Life) -> None:
        await life.pass_time(1_000)
        assert seal(life.system, flush=True) == []
        lift(life, ALL)
        await life.finish()

    world.live(after)
    assert faults(world) == []


def test_held_for_weeks_it_is_late_and_answered_all_the_same(tmp_path):
    world = World(tmp_path)
    world.publish(low("a"))

    async def begin(life: Life) -> None:
        hold(life, ALL)
        await turn(life)

    world.live(begin)
    for _ in range(8):
        later(world.clock, 5 * DAY_S)
        world.live(turn)

    async def end(life: Life) -> None:
        assert [part.state for part in life.system.parts.active()] == [PartState.CLOSED], "nor was it rescued"
        lift(life, ALL)
        await life.work()
        record = life.record("a")
        assert (record.status, record.deadline_met) == (Status.ANSWERED, False)

    world.live(end)
    assert faults(world) == []


def ages(life: Life) -> list[timedelta]:
    """How long ago each object of what is at work was last written."""
    now = life.system.clock.now()
    rows = [*life.system.parts.active(), *life.system.batches.active()]
    return [now - (row.kept_at or row.created_at) for row in rows]


def test_what_is_held_is_written_anew_long_before_the_bucket_would_take_it(tmp_path):
    world = World(tmp_path)
    world.publish(low("held"))
    written: list[str] = []

    async def day(life: Life) -> None:
        before = life.engine.objects.put
        life.engine.objects.put = lambda key, data: written.append(key) or before(key, data)
        hold(life, ALL)
        await turn(life)
        assert max(ages(life)) < EVERY

    for _ in range(28):
        world.live(day)
        later(world.clock, DAY_S)
    assert len(set(written)) == 1
    assert len(written) == 1 + 27 // EVERY.days


def test_a_batch_that_waits_keeps_its_file_its_manifest_and_its_parts(tmp_path):
    world = World(tmp_path)
    world.publish(low("a"))

    async def begin(life: Life) -> None:
        life.accept()
        drain(life.system)
        assert len(seal(life.system, flush=True)) == 1

    async def keep(life: Life) -> list[str]:
        written: list[str] = []
        before = life.engine.objects.put
        life.engine.objects.put = lambda key, data: written.append(key) or before(key, data)
        assert preserve(life.system) == 2
        assert max(ages(life)) < EVERY
        return sorted(key.rpartition("/")[2].partition("-")[0] for key in written)

    world.live(begin)
    later(world.clock, 6 * DAY_S)
    assert world.live(keep) == ["input.jsonl", "manifest.jsonl", "p"]


def test_what_is_written_anew_is_the_same_to_the_byte_wherever_it_is_cut_off(tmp_path):
    for call in ("objects.put", "parts.apply"):
        for side in Side:
            world = World(tmp_path / f"{call} {side.name}")
            world.publish(low("a"))

            async def begin(life: Life) -> bytes:
                hold(life, ALL)
                await turn(life)
                [part] = life.system.parts.active()
                return life.system.objects.get(part.object_key)

            async def keep(life: Life) -> None:
                preserve(life.system)

            before = world.live(begin)
            later(world.clock, 6 * DAY_S)
            with pytest.raises(Crash):
                world.live(keep, Dies(call, side))
            world.live(keep)

            async def look(life: Life) -> bytes:
                [part] = life.system.parts.active()
                assert ages(life)[0] < EVERY
                return life.system.objects.get(part.object_key)

            assert world.live(look) == before


def test_one_that_cannot_be_kept_does_not_keep_the_others_from_it(tmp_path):
    world = World(tmp_path, routes=with_batching(part_tasks=1))
    world.publish({"tasks": [low("a"), low("b"), low("c")]})

    async def begin(life: Life) -> None:
        hold(life, ALL)
        await turn(life)
        life.system.objects.delete([life.system.parts.active()[1].object_key])

    async def keep(life: Life) -> None:
        with pytest.raises(ExceptionGroup, match="1 of 3"):
            preserve(life.system)
        assert sorted(age < EVERY for age in ages(life)) == [False, True, True]

    world.live(begin)
    later(world.clock, 6 * DAY_S)
    world.live(keep)


def test_a_turn_whose_time_is_up_keeps_some_and_the_next_ones_the_rest(tmp_path):
    world = World(tmp_path, routes=with_batching(part_tasks=1))
    world.publish({"tasks": [low(f"t{number}") for number in range(AT_ONCE + 3)]})

    async def begin(life: Life) -> None:
        hold(life, ALL)
        await turn(life)

    async def keep(life: Life) -> None:
        now = life.system.clock.now()
        assert [preserve(life.system, stop_at=now) for _ in range(3)] == [AT_ONCE, 3, 0]

    world.live(begin)
    later(world.clock, 6 * DAY_S)
    world.live(keep)
