"""A batch that fails for a line that nobody named."""

from __future__ import annotations

from lowtide.core.records import Status
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.sweep.world import World, task

CULPRIT = "the line that no provider takes"


def test_halves_of_a_refused_batch_find_the_culprit_and_answer_all_others(tmp_path):
    mishap = Mishap(kind=MishapKind.FAILS_VALIDATION, contains=CULPRIT)
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60, mishaps=(mishap,))))
    texts = ["Hello."] * 11
    texts[7] = CULPRIT
    world.publish({"tasks": [task(f"t{number}", "bulk_classification", text) for number, text in enumerate(texts)]})
    assert world.work()

    async def look(life):
        return [life.record(f"t{number}") for number in range(11)]

    records = world.live(look)
    assert [record.task_id for record in records if record.status is Status.DEAD] == ["t7"]
    assert records[7].error.code == "invalid_request"
    assert {record.status for record in records if record.task_id != "t7"} == {Status.ANSWERED}
    # 11, 6 + 5, 3 + 3 (or 3 + 2), … : each round halves what is left with the culprit in it.
    assert records[7].attempts <= 5
    assert len(world.provider.billed) == 10
    assert world.provider.state()["files"] == []


def test_a_batch_that_ended_with_no_output_goes_again_whole(tmp_path):
    mishap = Mishap(kind=MishapKind.NO_OUTPUT_FILE, batches=(1,))
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60, mishaps=(mishap,))))
    world.publish(*[task(f"t{number}", "bulk_classification") for number in range(3)])
    assert world.work()

    async def look(life):
        return [life.record(f"t{number}") for number in range(3)]

    assert [record.attempts for record in world.live(look)] == [2, 2, 2]
