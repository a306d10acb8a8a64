"""Claims that come when the batch's file is written already: its collection carries what it did not send."""

from __future__ import annotations

from dataclasses import replace

from lowtide.core.records import Status
from lowtide.core.tasks import ClaimPart
from lowtide.steps.seal import seal
from lowtide.steps.turns import submit_due
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.sweep.world import World, routes, task


class Stalls:
    """A ports.Tasks that stands still before the last of its first claims."""

    def __init__(self, tasks, meanwhile):
        self._tasks = tasks
        self._meanwhile = [meanwhile]

    def get(self, keys):
        return self._tasks.get(keys)

    def apply(self, changes, now):
        if not self._meanwhile or not isinstance(changes[0].event, ClaimPart):
            return self._tasks.apply(changes, now)
        first = self._tasks.apply(changes[:-1], now)
        self._meanwhile.pop()()
        return first + self._tasks.apply(changes[-1:], now)


def test_a_task_claimed_after_its_part_was_sealed_is_answered_in_the_next_batch(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)))
    names = [f"t{number}" for number in range(5)]
    world.publish({"tasks": [task(name, "bulk_classification") for name in names]})

    async def other(life):
        await life.pass_time(routes().batching.lease_s + 1)
        seal(life.system, flush=True)
        await submit_due(life.system)

    async def drain(life):
        life.accept()
        life.system = replace(life.system, tasks=Stalls(life.system.tasks, lambda: world.meanwhile(life, other)))
        await life.assemble()
        return life.batch().requests, life.row("t4")

    requests, late = world.live(drain)
    assert requests == 4
    assert late.state == "staged"
    assert "drain_outlived_lease" in world.metrics.events()
    assert world.work()

    async def look(life):
        return [life.record(name) for name in names], life.row("t4")

    records, late = world.live(look)
    assert {record.status for record in records} == {Status.ANSWERED}
    # Carried, not retried: its attempt had not begun.
    assert [record.attempts for record in records] == [1] * 5
    assert late.holder is not None
    assert late.holder.startswith("s-")
    assert len(world.provider.billed) == 5
