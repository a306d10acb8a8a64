"""A few real-time tasks and the consumer of their tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lowtide.core.tiers import Tier
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
