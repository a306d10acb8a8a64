"""Flex that answers again is told at once, however long the invocation that heard of it goes on."""

from __future__ import annotations

import asyncio

from lowtide.core.tiers import Tier
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario, Window, WindowKind
from tests.steps.one_tier import begin
from tests.steps.test_pacing import publish_now
from tests.sweep.world import Life, task


def test_that_flex_is_back_is_told_when_it_answers_and_not_at_the_end_of_the_invocation(tmp_path):
    latencies = Latencies(flex=Latency(min_s=10, max_s=10))
    closed = Window(kind=WindowKind.NO_FLEX, from_s=0, to_s=20)
    world = begin(tmp_path, task("x", "meeting_summary"), scenario=Scenario(latency=latencies, windows=(closed,)))

    def refused(life: Life) -> int:
        [row] = [row for row in life.engine.paces.scan() if row.key.endswith("gpt-5-mini")]
        return row.flex_refused

    async def story(life: Life) -> None:
        life.accept()
        await life.answer(Tier.NORMAL)
        assert refused(life) > 0
        await life.pass_time(60)
        publish_now(life, {"tasks": [task("long", "meeting_summary", "[sim:timeout]", model="gpt-5-nano")]})
        publish_now(life, {"tasks": [task("trial", "meeting_summary")]})
        life.accept()
        invocation = asyncio.create_task(life.answer(Tier.NORMAL))
        await life.pass_time(60)
        assert not invocation.done()
        assert refused(life) == 0
        await invocation

    world.live(story)
