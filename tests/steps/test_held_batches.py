"""A hold that comes when a batch has begun: it costs no premium, and all of it is answered in the end."""

from __future__ import annotations

import pytest

from lowtide.core.batches import BatchState
from lowtide.core.holds import Lift, Place, Scope
from lowtide.core.lanes import Lane
from lowtide.core.records import Status
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Change
from lowtide.steps.drain import drain
from lowtide.steps.seal import seal
from lowtide_local.engine.crashes import Crash, CrashPlan, every_crash
from lowtide_local.run.records import settled
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.steps.books import faults
from tests.sweep.world import Life, World, later, task

HOUR_S, TWO_HOURS, DAY_S = 3_600, 7_200, 86_400
ALL, ACME, MINI = Scope(), Scope(tenant="acme"), Scope(model="gpt-5-mini")
NAMES = tuple("abcdef")
"""By turns acme's and globex's."""


def low(name: str, tenant: str = "default", deadline_s: int = TWO_HOURS) -> dict:
    return task(name, "content_generation", tenant=tenant, deadline_seconds=deadline_s)


def both() -> dict:
    return {"tasks": [low(name, ("acme", "globex")[n % 2]) for n, name in enumerate(NAMES)]}


def slow(hours: int = 10, **weather) -> Scenario:
    return Scenario(batch=BatchWeather(min_s=hours * HOUR_S, max_s=hours * HOUR_S, cancel_s=480, **weather))


def hold(life: Life, scope: Scope) -> None:
    life.system.holds.apply([Change(scope.text, Place(scope, "over budget"))], life.system.clock.now())


def lift(life: Life, scope: Scope) -> None:
    life.system.holds.apply([Change(scope.text, Lift())], life.system.clock.now())


async def turn(life: Life) -> None:
    await life.assemble()
    await life.answer(Tier.NORMAL)
    await life.collect()


async def turns(life: Life, seconds: int, *, step_s: int = 120) -> None:
    for _ in range(seconds // step_s):
        await turn(life)
        await life.pass_time(step_s)


async def running(life: Life) -> None:
    life.accept()
    await life.assemble()
    assert life.batch().state is BatchState.RUNNING


def records(life: Life) -> dict:
    return {document.record.task_id: document.record for _, document in settled(life.system, life.engine)}


@pytest.mark.parametrize("scope", [ALL, MINI])
def test_a_running_batch_that_is_held_whole_runs_on_past_its_deadline_and_answers_at_its_own_price(tmp_path, scope):
    world = World(tmp_path, slow(4))
    world.publish({"tasks": [low("a"), low("b")]})

    async def story(life: Life) -> None:
        await running(life)
        hold(life, scope)
        await turns(life, 5 * HOUR_S)
        ended = records(life)
        assert {record.lane for record in ended.values()} == {Lane.BATCH}
        assert {name: record.deadline_met for name, record in ended.items()} == {"a": False, "b": False}

    world.live(story)
    assert [batch["status"] for batch in world.provider.state()["batches"]] == ["completed"]
    assert faults(world) == []


def test_the_deadline_of_held_parts_cancels_nothing_and_that_of_the_others_does(tmp_path):
    """Acme's part is due in two hours and held; globex's has a day, of which a batch that never ends takes most."""
    never = (Mishap(kind=MishapKind.NEVER_ENDS),)
    world = World(tmp_path, slow(10, mishaps=never))
    world.publish({"tasks": [low("a", "acme"), low("g", "globex", DAY_S)]})

    async def begun(life: Life) -> None:
        hold(life, ACME)
        life.accept()
        drain(life.system)
        lift(life, ACME)
        await life.assemble()
        assert life.batch().requests == 2
        hold(life, ACME)
        await turns(life, 20 * HOUR_S)
        assert life.batch().rescued_at is None
        await turns(life, 4 * HOUR_S)
        assert records(life)["g"].deadline_met
        assert {record.lane for name, record in records(life).items() if name == "a"} <= {Lane.BATCH}
        lift(life, ACME)
        await turns(life, HOUR_S)
        assert set(records(life)) == {"a", "g"}

    world.live(begun)
    assert faults(world) == []


def test_of_a_batch_that_is_rescued_only_what_no_hold_covers_goes_to_a_dearer_lane(tmp_path):
    world = World(tmp_path, slow())
    world.publish(both())

    async def story(life: Life) -> None:
        await running(life)
        hold(life, ACME)
        await turns(life, TWO_HOURS)
        ended = records(life)
        assert {name for name in "bdf" if name in ended} == set("bdf"), "globex is answered in time"
        assert all(ended[name].deadline_met for name in "bdf")
        assert {ended[name].lane for name in "ace" if name in ended} <= {Lane.BATCH}
        [part] = life.system.parts.active()
        assert (part.tenant, part.tasks) == ("acme", 6 - len(ended))
        await turns(life, DAY_S // 4)
        assert set(records(life)) == set(ended), "what is held waits on"
        lift(life, ACME)
        await turns(life, HOUR_S)
        late = [record for name, record in records(life).items() if name not in ended]
        assert {(record.status, record.deadline_met) for record in late} == {(Status.ANSWERED, False)}
        assert Lane.BATCH not in {record.lane for record in late}

    world.live(story)
    assert faults(world) == []


def test_what_a_held_tenant_is_owed_of_an_expired_batch_waits_apart_from_the_others(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=600, max_s=600)))
    world.publish({"tasks": [low(name, ("acme", "globex")[n % 2], DAY_S) for n, name in enumerate(NAMES)]})

    async def story(life: Life) -> None:
        await running(life)
        hold(life, ACME)
        await life.system.batch_apis["openai"].cancel(life.batch().provider_batch.id)  # by somebody else
        await turns(life, 2 * HOUR_S)
        ended = records(life)
        assert set(ended) == set("bdf")
        assert {part.tenant for part in life.system.parts.active()} == {"acme"}
        lift(life, ACME)
        await turns(life, 2 * HOUR_S)
        assert {record.lane for record in records(life).values()} == {Lane.BATCH}
        assert set(records(life)) == set(NAMES)

    world.live(story)
    assert faults(world) == []


@pytest.mark.parametrize("scope", [ALL, ACME])
def test_a_sealed_batch_that_is_held_whole_is_not_taken_apart_for_its_deadline(tmp_path, scope):
    world = World(tmp_path, slow(1))
    world.publish(low("a", "acme"))

    async def sealed(life: Life) -> None:
        hold(life, ACME)
        life.accept()
        drain(life.system)
        lift(life, ACME)
        seal(life.system, flush=True)
        hold(life, scope)

    async def story(life: Life) -> None:
        await turns(life, 2 * HOUR_S)
        assert (records(life)["a"].lane, records(life)["a"].deadline_met) == (Lane.BATCH, False)

    world.live(sealed)
    later(world.clock, TWO_HOURS)
    world.live(story)
    assert faults(world) == []


def test_a_crash_at_any_write_of_a_rescue_under_a_hold_loses_nothing_and_pays_no_premium_for_what_is_held(tmp_path):
    def rescued(name: str) -> World:
        world = World(tmp_path / name, slow())
        world.publish(both())
        world.live(held)
        return world

    async def held(life: Life) -> None:
        await running(life)
        hold(life, ACME)
        while life.batch().rescued_at is None:
            await turns(life, 120)
        await life.pass_time(500)  # it has ended, and nobody has looked

    async def on(life: Life) -> None:
        await turns(life, HOUR_S, step_s=300)
        lanes = {record.lane for name, record in records(life).items() if name in "ace"}
        assert lanes <= {Lane.BATCH}
        assert set("bdf") <= set(records(life))
        lift(life, ACME)
        await turns(life, 2 * HOUR_S, step_s=300)
        assert set(records(life)) == set(NAMES)

    plan = CrashPlan()
    clean = rescued("clean")
    clean.live(Life.collect, plan)
    writes = [at for at in every_crash(len(plan.calls)) if plan.calls[at.at - 1].rpartition(".")[2] in WRITES]
    assert len(writes) > 10
    for crash in writes:
        world = rescued(f"{crash.at}-{crash.side.name}")
        with pytest.raises(Crash):
            world.live(Life.collect, crash)
        world.live(on)
        assert faults(world) == [], crash


WRITES = ("apply", "put", "send", "clean")


def test_thousands_of_holds_on_others_keep_no_batch_from_being_collected(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=600, max_s=600)))
    world.publish(low("a"))

    async def story(life: Life) -> None:
        await running(life)
        scopes = [Scope(tenant=f"customer-{n:06d}-some-company-name") for n in range(8_000)]
        changes = [Change(scope.text, Place(scope, "over budget")) for scope in scopes]
        life.system.holds.apply(changes, life.system.clock.now())
        await life.pass_time(700)
        await life.collect()
        assert life.row("a").state is TaskState.ANSWERED

    world.live(story)
    assert faults(world) == []
