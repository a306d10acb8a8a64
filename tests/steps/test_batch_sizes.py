"""A batch stays within the provider's limits as they are counted there: bytes as written, inputs of embeddings."""

from __future__ import annotations

import pytest

from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.sweep.world import World, task


@pytest.mark.parametrize("character", ["a", "中", "😀"])
def test_a_parts_estimate_covers_the_bytes_that_its_lines_take_in_the_file(tmp_path, character):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)))
    world.publish({"tasks": [task(f"t{number}", "bulk_classification", character * 2_000) for number in range(20)]})

    async def story(life):
        life.accept()
        await life.assemble()
        return life.batch(), life.system.parts.get(life.batch().part_ids)

    batch, parts = world.live(story)
    estimated = sum(part.bytes for part in parts)
    assert batch.bytes <= estimated <= 1.1 * batch.bytes


def test_a_line_that_was_billed_without_an_answer_is_counted_as_repaid(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)))
    world.publish(task("t1", "bulk_classification", "Hello. [sim:garbage-once]"))
    assert world.work()

    async def look(life):
        return life.row("t1")

    row = world.live(look)
    assert row.repaid == 1
    assert len(world.provider.billed) == 2


def test_a_line_refused_for_the_account_stops_the_sending(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)))
    world.publish(task("t1", "bulk_classification", "Hello. [sim:quota-once]"))

    async def story(life):
        life.accept()
        await life.assemble()
        await life.pass_time(120)
        with pytest.raises(ExceptionGroup) as refused:
            await life.collect()
        [part] = life.system.parts.active()
        return refused.value.exceptions[0], (part.not_before - part.created_at).total_seconds()

    error, wait_s = world.live(story)
    assert "insufficient_quota" in str(error)
    assert wait_s >= 300
    assert world.metrics.total("account_refused") == 1
    assert world.work()
    assert len(world.provider.billed) == 1
