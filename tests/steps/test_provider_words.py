"""What a provider says without measure: its faults and its codes cost nobody their batch."""

from __future__ import annotations

import orjson

from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.core.receipts import Receipt
from lowtide.core.tasks import TaskState
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.steps.books import faults
from tests.sweep.world import Life, World, task

BATCHED = "content_generation"


def test_more_named_lines_than_a_row_holds_are_dead_after_several_batches(tmp_path):
    lines = 2_500
    refused = Mishap(kind=MishapKind.FAILS_VALIDATION, lines=tuple(range(1, lines + 1)))
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60, mishaps=(refused,))))
    world.publish(*({"tasks": [task(f"t{k}-{n}", BATCHED) for n in range(500)]} for k in range(lines // 500)))
    assert world.work()

    async def look(life: Life) -> Receipt:
        return life.engine.ledger.total()

    assert world.live(look).dead == lines
    assert faults(world) == []


def test_a_code_with_a_control_character_makes_a_dead_letter_like_any_other(tmp_path, monkeypatch):
    real = OpenAIBatches.results

    async def odd(self, batch):
        async for line in real(self, batch):
            told = orjson.loads(line)
            error = {"code": "bad\u0001code" + "x" * 1_000, "message": "why\ufffe" + "y" * 100_000}
            told["response"] = {"status_code": 400, "body": {"error": error}}
            yield orjson.dumps(told)

    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)))
    world.publish(task("a", BATCHED))
    monkeypatch.setattr(OpenAIBatches, "results", odd)
    assert world.work()

    async def look(life: Life) -> None:
        row, record = life.row("a"), life.record("a")
        assert (row.state, row.error_code) == (TaskState.DEAD, record.error.code)
        assert record.error.code == "bad?code" + "x" * 92
        assert record.error.message == "why?" + "y" * 496
        [letter] = life.letters()
        assert letter["error"]["code"] == record.error.code

    world.live(look)
