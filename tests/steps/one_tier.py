"""A few real-time tasks and the consumer of their tier."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from lowtide.core.tiers import Tier
from lowtide.steps.answer import answer
from lowtide.steps.slots import Slots
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario
from tests.sweep.world import Life, World


def begin(tmp_path: Path, *messages: object, scenario: Scenario | None = None, **options: Any) -> World:
    world = World(tmp_path, scenario or Scenario(), **options)
    world.publish(*messages)
    return world


def slow(seconds: float) -> Scenario:
    latency = Latency(min_s=seconds, max_s=seconds)
    return Scenario(latency=Latencies(default=latency, flex=latency))


async def answered(life: Life, tier: Tier = Tier.HIGH, *, turns: int = 40) -> None:
    """Invocations of one tier's consumer until nothing is on its queue."""
    life.accept()
    for _ in range(turns):
        await life.answer(tier)
        if not life.waiting(tier):
            return
        await life.pass_time(10)
    raise AssertionError(f"there is no end to {tier}")


async def invoked(life: Life, tier: Tier, seconds: float) -> bool:
    """One invocation of the deployed function, all of whose calls have ended after so many seconds: it begins with
    nothing in mind. False where there was no message."""
    messages = life.system.tiers[tier].receive(10, visibility_s=600)
    slots = Slots(life.system.routes.tiers[tier].concurrency)
    stop_at = life.system.clock.now() + timedelta(seconds=seconds)
    report = await answer(life.system, tier, messages, slots=slots, stop_at=stop_at)
    life.system.tiers[tier].delete(report.done)
    return bool(messages)
