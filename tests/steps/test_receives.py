"""Days in which nothing can be answered: no message comes near the thousand receives after which SQS gives it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide.core.errors import LowtideError
from lowtide.core.returns import MOST_RECEIVES
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Outgoing
from lowtide.steps.accept import accept_messages
from lowtide.steps.answer import answer
from lowtide.steps.slots import Slots
from lowtide_local.simulator.scenario import Scenario, Window, WindowKind
from tests.steps.one_tier import begin
from tests.sweep.world import Life, task

HOUR = 3_600
IN_HAND_S = {Tier.CRITICAL: 15, Tier.NORMAL: 295}
"""What an invocation has for its calls: its function's timeout, less the time to write down what they brought."""


def lasting(kind: WindowKind, hours: float) -> Scenario:
    return Scenario(windows=(Window(kind=kind, from_s=0, to_s=hours * HOUR),))


async def receives_until_answered(life: Life, tier: Tier) -> int:
    """The most that one message took, with an invocation as soon as any is visible."""
    life.accept()
    most = 0
    while life.waiting(tier):
        messages = life.system.tiers[tier].receive(10, visibility_s=2 * IN_HAND_S[tier])
        if not messages:
            at = life.engine.queue(tier.value).next_visible_at()
            assert at is not None
            await life.pass_time(max(0.5, (at - life.system.clock.now()).total_seconds()))
            continue
        most = max(most, *(message.receives for message in messages))
        stop_at = life.system.clock.now() + timedelta(seconds=IN_HAND_S[tier])
        report = await answer(life.system, tier, messages, slots=Slots(30), stop_at=stop_at)
        life.system.tiers[tier].delete(report.done)
    return most


def most_receives(tmp_path, tier: Tier, scenario: Scenario, *messages: object) -> int:
    """Until every task was answered, with no dead letter on the way."""
    world = begin(tmp_path, *messages, scenario=scenario)

    async def story(life: Life) -> int:
        most = await receives_until_answered(life, tier)
        assert life.letters() == []
        assert {row.state for row in life.engine.tasks.scan()} == {TaskState.ANSWERED}
        return most

    return world.live(story)


@pytest.mark.parametrize(("kind", "tier"), [("live_chat_response", Tier.CRITICAL), ("meeting_summary", Tier.NORMAL)])
def test_a_provider_that_is_down_for_a_day_costs_no_message_its_receives(tmp_path, kind, tier):
    tasks = [task(f"t{number}", kind, model="gpt-4.1-mini") for number in range(6)]
    most = most_receives(tmp_path, tier, lasting(WindowKind.OUTAGE, 24), *tasks)
    assert most < MOST_RECEIVES / 2 + 100


def test_nor_does_an_account_that_is_refused_for_as_long_as_the_queues_keep_messages(tmp_path):
    tasks = [task(f"t{number}", "meeting_summary", model="gpt-4.1-mini") for number in range(3)]
    most = most_receives(tmp_path, Tier.NORMAL, lasting(WindowKind.QUOTA, 10 * 24), *tasks)
    assert most < MOST_RECEIVES - 100


def test_nor_does_a_pack_that_waits_for_flex_all_day_and_its_deadlines_are_kept(tmp_path):
    pack = {"tasks": [task(f"t{n}", "meeting_summary", deadline_seconds=24 * HOUR) for n in range(6)]}
    world = begin(tmp_path, pack, scenario=lasting(WindowKind.NO_FLEX, 24))

    async def story(life: Life) -> int:
        most = await receives_until_answered(life, Tier.NORMAL)
        assert all(life.record(f"t{n}").deadline_met for n in range(6))
        return most

    assert world.live(story) < MOST_RECEIVES - 300


class Refusing:
    """A tier's queue that takes nothing."""

    def send(self, messages: Sequence[Outgoing]) -> None:
        raise LowtideError(f"{len(messages)} messages were not taken")


def test_nor_does_what_ingest_cannot_forward_for_days(tmp_path):
    world = begin(tmp_path, task("t", "meeting_summary"))

    async def story(life: Life) -> int:
        full = replace(life.system, tiers=life.system.tiers | {Tier.NORMAL: Refusing()})
        intake, began, receives = life.engine.queue("intake"), life.system.clock.now(), 0
        while life.system.clock.now() < began + timedelta(days=10):
            [message] = intake.receive(10, visibility_s=10)
            receives = message.receives
            with pytest.raises(LowtideError):
                accept_messages(full, [message])
            at = intake.next_visible_at()
            assert at is not None
            await life.pass_time((at - life.system.clock.now()).total_seconds())
        return receives

    assert world.live(story) < MOST_RECEIVES
