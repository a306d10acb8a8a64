"""A message that is to come again is put back when its own work has ended, whatever its neighbours are at."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from lowtide.core.records import Status
from lowtide.core.tiers import Tier
from tests.steps.one_tier import answered, begin, watched
from tests.steps.test_pacing import publish_now
from tests.sweep.world import Life, task


def arrive(life: Life, *tasks: dict[str, object]) -> None:
    """Each in a message of its own: what is accepted together travels together."""
    for each in tasks:
        publish_now(life, each)
        life.accept()


async def consumed(life: Life, tier: Tier, **options: object) -> None:
    """Another consumer of this tier, for as long as it is let."""
    while True:
        await life.answer(tier, **options)
        await life.pass_time(0.5)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_quick_failure_is_tried_again_within_a_short_deadline_however_slow_its_neighbour_is(tmp_path, neighbours):
    kind = "live_chat_response"
    slow = [task("slow", kind, "[sim:timeout]", deadline_seconds=15)] * neighbours
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        arrive(life, task("quick", kind, "[sim:500-once]", deadline_seconds=15), *slow)
        consumers = [asyncio.create_task(consumed(life, Tier.CRITICAL, visibility_s=None)) for _ in range(2)]
        await life.pass_time(15)
        record = life.record("quick")
        assert (record.status, record.attempts, record.deadline_met) == (Status.ANSWERED, 2, True)
        for consumer in consumers:
            consumer.cancel()

    world.live(story)


def test_what_was_put_back_is_no_longer_kept_by_the_invocation_that_had_it(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        arrive(life, task("quick", "email_draft", "[sim:500-once]"), task("slow", "email_draft", "[sim:timeout]"))
        queue = watched(life, Tier.HIGH)
        first = asyncio.create_task(life.answer(Tier.HIGH, visibility_s=10))
        await life.pass_time(1.5)
        [[(quick, delay_s)]] = queue.writes
        assert delay_s < 5
        await life.pass_time(8)
        [again] = queue.receive(10, visibility_s=30)
        assert again.id == quick.id
        report = await first
        assert quick in report.again, "it is reported as unfinished, so that nobody deletes it"
        later = [message for write in queue.writes[1:] for message, _ in write]
        assert later, "the slow one was kept"
        assert quick.receipt not in {message.receipt for message in later}
        assert [message.id for message in queue.receive(10, visibility_s=0)] == []

    world.live(story)


def test_what_is_put_back_at_one_moment_goes_in_few_writes(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        arrive(life, *(task(f"t{number}", "email_draft") for number in range(10)))
        queue = watched(life, Tier.HIGH)
        report = await life.answer(Tier.HIGH, stop_at=life.system.clock.now() + timedelta(seconds=1))
        assert len(report.again) == 10
        assert sum(len(write) for write in queue.writes) == 10
        assert len(queue.writes) <= 2

    world.live(story)


def test_a_queue_that_will_not_take_a_message_back_delays_that_message_and_nothing_else(tmp_path):
    world = begin(tmp_path)

    async def story(life: Life) -> None:
        arrive(life, task("quick", "email_draft", "[sim:500-once]"), task("good", "email_draft"))
        queue = watched(life, Tier.HIGH)
        queue.broken = True
        report = await life.answer(Tier.HIGH)
        assert (len(report.done), len(report.again)) == (1, 1)
        assert life.record("good").status is Status.ANSWERED
        assert "message_not_put_back" in world.metrics.events()
        queue.broken = False
        await life.pass_time(60)
        await answered(life)
        assert (life.record("quick").status, life.row("quick").repaid) == (Status.ANSWERED, 0)

    world.live(story)
