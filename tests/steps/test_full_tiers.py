"""A tier past its cap: what is for it waits upstream or is shed, and nothing else is touched."""

from __future__ import annotations

import pytest

from lowtide.core.admission import Cap, Overflow
from lowtide.core.tiers import Tier
from tests.sweep.world import Life, World, routes, task


def capped(tier: Tier, overflow: Overflow, *, depth: int = 1, age_s: float = 1e6):
    shipped = routes()
    spec = shipped.tiers[tier].model_copy(update={"cap": Cap(depth=depth, age_s=age_s, overflow=overflow)})
    return shipped.model_copy(update={"tiers": {**shipped.tiers, tier: spec}})


def full_world(tmp_path, overflow, **caps):
    """HIGH takes one message, and has it."""
    world = World(tmp_path, routes=capped(Tier.HIGH, overflow, **caps))
    world.publish(task("first", "email_draft"))

    async def story(life: Life) -> None:
        life.accept()

    world.live(story)
    return world


def test_what_a_full_tier_does_not_take_waits_on_the_intake_queue_and_is_answered_later(tmp_path):
    world = full_world(tmp_path, Overflow.WAIT)
    world.publish(task("second", "email_draft"), task("other", "meeting_summary"))

    async def story(life: Life) -> None:
        life.accept()
        assert (life.waiting(Tier.HIGH), life.waiting(Tier.NORMAL)) == (1, 1)
        assert life.system.intake.depth().in_flight == 1
        assert life.letters() == []
        assert world.metrics.total("admission_waits") == 1
        await life.answer(Tier.HIGH)
        life.accept()
        assert life.system.intake.depth().in_flight == 1, "it waits ten seconds whatever happens"
        await life.pass_time(10)
        life.accept()
        await life.answer(Tier.HIGH)
        assert life.record("second").status == "answered"
        assert life.row("second").attempt == 1

    world.live(story)


def test_a_pack_with_a_task_for_a_full_tier_waits_whole(tmp_path):
    world = full_world(tmp_path, Overflow.WAIT)
    world.publish({"tasks": [task("second", "email_draft"), task("other", "meeting_summary"), {"task_id": "bad"}]})

    async def story(life: Life) -> None:
        life.accept()
        assert (life.waiting(Tier.HIGH), life.waiting(Tier.NORMAL)) == (1, 0)
        assert life.letters() == [], "what is refused in it is told once, when it goes on"

    world.live(story)


def test_what_a_full_tier_sheds_is_a_dead_letter_and_its_neighbours_go_on(tmp_path):
    world = full_world(tmp_path, Overflow.SHED)
    world.publish({"tasks": [task("second", "email_draft"), task("other", "meeting_summary")]})

    async def story(life: Life) -> None:
        life.accept()
        [letter] = life.letters()
        assert letter["error"]["code"] == "shed"
        assert letter["error"]["message"].startswith("task 'second' was not taken in: HIGH holds 1 messages")
        assert letter["task"]["task_id"] == "second"
        assert (life.waiting(Tier.HIGH), life.waiting(Tier.NORMAL)) == (1, 1)
        assert life.engine.ledger.total().refused == 1
        assert world.metrics.total("shed") == 1

    world.live(story)


def test_a_task_that_was_shed_may_be_sent_again(tmp_path):
    world = full_world(tmp_path, Overflow.SHED)
    second = task("second", "email_draft")
    world.publish(second)

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)

    world.live(story)
    world.publish(second)

    async def again(life: Life) -> None:
        life.accept()
        await life.answer(Tier.HIGH)
        assert life.record("second").status == "answered"
        assert life.engine.ledger.total().duplicates == 0

    world.live(again)


@pytest.mark.parametrize(("age_s", "waits"), [(60, 1), (3_600, 0)])
def test_a_tier_whose_oldest_message_has_waited_too_long_takes_no_more(tmp_path, age_s, waits):
    world = full_world(tmp_path, Overflow.WAIT, depth=100, age_s=age_s)

    async def story(life: Life) -> None:
        await life.pass_time(120)

    world.live(story)
    world.publish(task("second", "email_draft"))

    async def later(life: Life) -> None:
        life.accept()
        assert life.system.intake.depth().in_flight == waits

    world.live(later)
