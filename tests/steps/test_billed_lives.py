"""What was billed and brought no answer stays in the books: through cancels, redrives, rescues, and with no price."""

from __future__ import annotations

import orjson
import pytest

from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.core.batches import BatchState
from lowtide.core.routes import Routes
from lowtide.core.tasks import TaskState
from lowtide.steps.cancel import cancel_tasks
from lowtide.steps.redrive import redrive
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.steps.books import faults
from tests.sweep.world import Life, World, form, task, validating

BATCHED = "content_generation"
A = ("default", "a")


def one_try() -> Routes:
    """Answers are validated, and the first that does not hold is the last."""
    routes = validating(BATCHED)
    return routes.model_copy(update={"retries": routes.retries.model_copy(update={"attempts": 1})})


def weather(*mishaps: Mishap) -> Scenario:
    return Scenario(batch=BatchWeather(min_s=600, max_s=600, cancel_s=480, mishaps=mishaps))


@pytest.mark.parametrize("text", ["[sim:misfit]", "[sim:decline]"])
def test_a_billed_answer_that_is_none_is_counted_although_its_task_was_cancelled(tmp_path, text):
    world = World(tmp_path, weather(), routes=validating(BATCHED))
    world.publish(form("a", BATCHED, text), task("b", BATCHED))

    async def story(life: Life) -> None:
        life.accept()
        await life.assemble()
        assert life.batch().state is BatchState.RUNNING
        cancel_tasks(life.system, [A])
        await life.pass_time(700)
        await life.finish()
        assert (life.row("a").repaid, life.engine.ledger.total().repaid) == (1, 1)

    world.live(story)
    assert len(world.provider.billed) == 2
    assert faults(world) == []


def test_a_redriven_and_then_rescued_task_remembers_what_its_first_life_was_billed(tmp_path):
    slow = Mishap(kind=MishapKind.SLOW, batches=(2,), factor=100)
    world = World(tmp_path, weather(slow), routes=one_try())
    world.publish(form("a", BATCHED, "[sim:misfit-once]", deadline_seconds=7200))
    assert world.work()

    async def again(life: Life) -> None:
        assert life.row("a").state is TaskState.DEAD
        redrive(life.system, [A])
        await life.work()
        assert (life.row("a").state, life.row("a").strikes.billed) == (TaskState.ANSWERED, (1,))
        assert life.row("a").rescued_from is not None

    world.live(again)
    assert faults(world) == []


def test_a_redriven_task_with_a_billed_try_of_unknown_price_has_no_known_cost(tmp_path, monkeypatch):
    real = OpenAIBatches.results

    async def without_usage(self, batch):
        async for line in real(self, batch):
            told = orjson.loads(line)
            told["response"]["body"].pop("usage", None)
            yield orjson.dumps(told)

    world = World(tmp_path, weather(), routes=one_try())
    world.publish(form("a", BATCHED, "[sim:misfit-once]"))
    with monkeypatch.context() as patched:
        patched.setattr(OpenAIBatches, "results", without_usage)
        assert world.work()

    async def again(life: Life) -> None:
        assert life.record("a").cost_usd is None
        redrive(life.system, [A])
        await life.work()
        assert life.row("a").state is TaskState.ANSWERED
        assert life.record("a").cost_usd is None

    world.live(again)
