"""A collection that is cut off between its shards: by the time limit, by a crash, by another release."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.batches import BatchState, BatchTally
from lowtide.core.records import Status
from lowtide.steps import settle
from lowtide.steps.collect import collect
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.sweep.world import Dies, World, later, task

TEXTS = {
    **{f"fine-{number}": "Hello." for number in range(9)},
    "twice": "[sim:missing-once]",
    "poison": "[sim:refuse]",
}
SHARD = 3
SHARDS = 4
"""Of ten lines that end in the first batch, three in a shard: three checkpoints and a last shard without one."""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(settle, "SHARD_LINES", SHARD)


def begun(directory) -> World:
    """A world whose one batch has ended at the provider, and nobody has collected it."""
    world = World(directory, Scenario(batch=BatchWeather(min_s=60, max_s=60, shuffled=True)))
    world.publish({"tasks": [task(name, "bulk_classification", text) for name, text in TEXTS.items()]})

    async def submit(life):
        life.accept()
        await life.assemble()

    world.live(submit)
    later(world.clock, 300)
    return world


async def in_one_go(life):
    return await collect(life.system, life.batch())


async def one_shard_at_a_time(life):
    return await collect(life.system, life.batch(), stop_at=life.system.clock.now())


def outcome(world: World):
    """The rows, the shards and the ledger, without the moments at which they were written."""

    async def look(life):
        rows = [row.model_copy(update={"settled_at": None, "rev": 0}) for row in life.engine.tasks.scan()]
        objects = {key: life.engine.objects.get(key) for key in life.engine.objects.keys("")}
        return rows, objects, life.engine.ledger.total()

    return world.live(look)


def collected(directory):
    """What a collection without a stop leaves behind."""
    world = begun(directory)
    assert world.live(in_one_go).state is BatchState.DONE
    return outcome(world)


def test_a_collection_in_many_turns_leaves_what_one_turn_leaves(tmp_path):
    world = begun(tmp_path / "many")
    turns = []
    while not turns or turns[-1].state is not BatchState.DONE:
        turns.append(world.live(one_shard_at_a_time))
    assert [turn.state for turn in turns[:-1]] == [BatchState.COLLECTING] * (SHARDS - 1)
    assert [turn.progress.shards for turn in turns] == [1, 2, 3, 3]
    assert turns[-1].tally == BatchTally(answered=9, retried=1, dead=1)
    assert outcome(world) == collected(tmp_path / "one")


def test_a_turn_does_not_write_the_shards_again_that_a_checkpoint_covers(tmp_path):
    world, second = begun(tmp_path), CrashPlan()
    world.live(one_shard_at_a_time)
    world.live(in_one_go, second)
    # Three shards, the retry part, and how long the batch took.
    assert second.calls.count("objects.put") == SHARDS - 1 + 2
    assert second.calls.count("ledger.put") == SHARDS - 1


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("call", ["objects.put", "tasks.apply", "ledger.put", "batches.apply"])
def test_a_crash_in_any_shard_leaves_what_no_crash_leaves(tmp_path, call, side):
    clean = collected(tmp_path / "clean")
    for nth in range(1, SHARDS + 1):
        world = begun(tmp_path / f"{nth}")
        with pytest.raises(Crash):
            world.live(in_one_go, Dies(call, side, nth))
        if world.live(_state) is not None:
            assert world.live(in_one_go).state is BatchState.DONE
        assert outcome(world)[0::2] == clean[0::2]
        assert outcome(world)[1].keys() >= clean[1].keys()


@pytest.mark.parametrize(("call", "side"), [("ledger.put", Side.AFTER), ("batches.apply", Side.BEFORE)])
@pytest.mark.parametrize("nth", range(1, SHARDS + 1))
def test_a_death_that_the_ledger_has_is_not_told_again_by_the_collection_after_a_crash(tmp_path, call, side, nth):
    world = begun(tmp_path)
    with pytest.raises(Crash):
        world.live(in_one_go, Dies(call, side, nth))
    assert world.live(in_one_go).state is BatchState.DONE

    async def letters(life):
        return [letter["task"]["task_id"] for letter in life.letters()]

    assert world.live(letters) == ["poison"]


async def _state(life):
    return next(iter(life.system.batches.active()), None)


def test_a_checkpoint_that_another_release_made_is_not_believed(tmp_path, monkeypatch):
    world = begun(tmp_path)
    world.live(one_shard_at_a_time)
    # Other shards: what the checkpoint covers is not what a reading comes to now.
    monkeypatch.setattr(settle, "SHARD_LINES", SHARD + 1)
    assert world.live(in_one_go).state is BatchState.DONE
    assert "collection_diverged" in world.metrics.events()
    assert world.work()

    async def look(life):
        return {name: life.record(name) for name in TEXTS}, life.engine.ledger.total()

    records, total = world.live(look)
    assert {name for name, record in records.items() if record.status is Status.DEAD} == {"poison"}
    assert (total.tasks, total.answered, total.dead) == (11, 10, 1)


def test_a_turn_that_is_out_of_time_comes_a_shard_further_all_the_same(tmp_path):
    world = begun(tmp_path)

    async def late(life):
        return await collect(life.system, life.batch(), stop_at=life.system.clock.now() - timedelta(hours=1))

    shards = [world.live(late).progress.shards for _ in range(SHARDS - 1)]
    assert shards == [1, 2, 3]
