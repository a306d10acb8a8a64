"""A few real-time tasks and the consumer of their tier."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from lowtide.core.errors import LowtideError
from lowtide.core.tiers import Tier
from lowtide.ports import Message
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


class Watched:
    """A queue whose deferrals are kept, one list a write, and refused while ``broken``."""

    def __init__(self, queue: object) -> None:
        self._queue = queue
        self.writes: list[list[tuple[Message, int]]] = []
        self.broken = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._queue, name)

    def defer(self, messages: Sequence[tuple[Message, int]]) -> None:
        if self.broken:
            raise LowtideError("the queue is busy")
        self.writes.append(list(messages))
        self._queue.defer(messages)


def watched(life: Life, tier: Tier) -> Watched:
    queue = Watched(life.system.tiers[tier])
    life.system.tiers[tier] = queue
    return queue
