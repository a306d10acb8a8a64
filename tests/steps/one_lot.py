"""A few LOW tasks of one lot, and what became of them."""

from __future__ import annotations

from pathlib import Path

from lowtide.core.records import Status
from lowtide_local.run.records import settled
from lowtide_local.simulator.scenario import Scenario
from tests.sweep.world import Life, World, task


def begin(tmp_path: Path, scenario: Scenario | None = None, **texts: str) -> World:
    """One LOW task for each name, asking for its text."""
    world = World(tmp_path, scenario or Scenario())
    world.publish(*(task(name, "content_generation", text) for name, text in texts.items()))
    return world


async def running(life: Life) -> None:
    life.accept()
    await life.assemble()


async def all_of_it(life: Life) -> None:
    await running(life)
    await life.finish()


def ends(life: Life) -> dict[str, tuple[Status, int]]:
    records = [document.record for _, document in settled(life.system, life.engine)]
    return {record.task_id: (record.status, record.attempts) for record in records}


def batched(world: World) -> list[str | None]:
    world.provider.progress()
    return [line.id for line in world.provider.billed]
