"""CRITICAL kept waiting: batches that share its limits are submitted later, never too late, and visibly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide.core.batches import BatchState
from lowtide.core.errors import LowtideError
from lowtide.core.offpeak import OffPeak
from lowtide.core.preemption import Preemption
from lowtide.core.records import Status
from lowtide.core.rescues import LONGEST_TURN
from lowtide.core.routes import Routes
from lowtide.core.tiers import Tier
from lowtide.steps.turns import submit_due
from lowtide_local.engine.crashes import Crash, Side
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.sweep.world import START, Dies, Life, World, later, routes, task

CREATE = "POST /v1/batches"
DAY_S = 86_400
LAST_S = 5_300
"""Before its deadline: nine in ten such batches end in 48 minutes, a rescue takes 25, the next turn may be 15 away."""
TURN_S = 300


def sharing(*, shares: bool = True, **changes) -> Routes:
    openai = routes().provider("openai").model_copy(update={"batch_shares_limits": shares})
    return routes().model_copy(update={"providers": {"openai": openai}, **changes})


def begin(tmp_path, *, due_s: int = DAY_S, of: Routes | None = None, chat: bool = True) -> World:
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)), of or sharing())
    chats = [task("chat", "live_chat_response")] if chat else []
    world.publish(task("bulk", "content_generation", deadline_seconds=due_s), *chats)
    return world


def created(world: World) -> int:
    return world.provider.requests[CREATE]


async def waited(life: Life) -> None:
    """CRITICAL has waited for longer than the threshold, and then the assembler has its turn."""
    life.accept()
    await life.pass_time(6)
    await life.assemble()


def test_a_sealed_batch_waits_while_critical_does_and_is_submitted_when_it_does_no_more(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        await waited(life)
        assert (life.batch().state, created(world)) == (BatchState.SEALED, 0)
        assert world.metrics.total("submissions_held", reason="critical") == 1
        await life.answer(Tier.CRITICAL)
        await submit_due(life.system)
        assert (life.batch().state, created(world)) == (BatchState.RUNNING, 1)
        await life.finish()
        record = life.record("bulk")
        assert (record.status, record.attempts, record.deadline_met) == (Status.ANSWERED, 1, True)

    world.live(story)


def test_critical_that_has_only_just_come_holds_nothing_back(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        life.accept()
        await life.assemble()
        assert created(world) == 1

    world.live(story)


@pytest.mark.parametrize("of", [sharing(shares=False), sharing(preemption=Preemption(enabled=False))])
def test_a_batch_goes_at_once_where_it_has_limits_of_its_own_or_preemption_is_off(tmp_path, of):
    world = begin(tmp_path, of=of)
    world.live(waited)
    assert created(world) == 1


def test_a_batch_whose_deadline_leaves_no_turn_to_wait_goes_whatever_waits(tmp_path):
    world = begin(tmp_path, due_s=LAST_S - 100)
    world.live(waited)
    assert created(world) == 1


def test_critical_that_waits_for_ever_holds_a_batch_no_longer_than_its_deadline_allows(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        await waited(life)
        while not created(world):
            await life.pass_time(TURN_S)
            await submit_due(life.system)
        left_s = (life.batch().tightest_deadline - life.system.clock.now()).total_seconds()
        assert LAST_S - TURN_S <= left_s <= LAST_S
        assert life.batch().rescued_at is None
        await life.finish()
        record = life.record("bulk")
        assert (record.batch_id is not None, record.deadline_met) == (True, True)

    world.live(story)


def test_what_may_be_at_the_provider_already_is_looked_for_all_the_same(tmp_path):
    world = begin(tmp_path)

    async def submitting(life: Life) -> None:
        life.accept()
        await life.assemble()

    with pytest.raises(Crash):
        world.live(submitting, Dies("batch_apis.openai.create", Side.AFTER))
    later(world.clock, 300)

    async def after(life: Life) -> None:
        await submit_due(life.system)
        assert (life.batch().state, created(world)) == (BatchState.RUNNING, 1)

    world.live(after)


def test_a_store_that_cannot_say_who_waits_holds_nothing_back(tmp_path):
    world = begin(tmp_path)

    class Unheard:
        def look(self, tiers):
            raise LowtideError("how high the queues stand could not be asked")

        def mark(self, tier, oldest_s):
            pass

    async def story(life: Life) -> None:
        life.accept()
        await life.pass_time(6)
        life.system = replace(life.system, levels=Unheard())
        await life.assemble()
        assert created(world) == 1

    world.live(story)


def test_a_batch_is_not_held_past_the_end_of_its_off_peak_window(tmp_path):
    window = OffPeak.model_validate({"from": "2026-03-01", "opens": "05:00", "closes": "09:00", "discount": "0.5"})
    openai = sharing().provider("openai").model_copy(update={"off_peak": (window,)})
    world = begin(tmp_path, of=sharing().model_copy(update={"providers": {"openai": openai}}))

    async def story(life: Life) -> None:
        await waited(life)
        assert created(world) == 0
        while not created(world) and life.system.clock.now() < START + timedelta(hours=2):
            await life.pass_time(LONGEST_TURN.total_seconds())
            await submit_due(life.system)
        assert life.system.clock.now() < START + timedelta(hours=1)
        await life.finish()
        record = life.record("bulk")
        assert record.cost_usd == record.list_cost_usd / 4

    world.live(story)
