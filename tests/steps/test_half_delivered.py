"""A shard whose rows were written and nobody told, and a deployment that reads the files otherwise before they are."""

from __future__ import annotations

import orjson
import pytest

from lowtide.core.offpeak import OffPeak
from lowtide.core.records import Status
from lowtide.core.routes import Routes
from lowtide_local.engine.crashes import Crash, Side
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.steps.books import faults
from tests.steps.one_lot import running
from tests.sweep.world import Dies, Life, World, later, task

BATCHED = "content_generation"
REPLY_TO = "https://queue/replies"


def cheaper(routes: Routes) -> Routes:
    """The same answers at other prices."""
    spec = routes.providers["openai"]
    window = OffPeak.model_validate({"from": "2026-01-01", "opens": "00:00", "closes": "23:59", "discount": "0.1"})
    return routes.model_copy(
        update={"providers": routes.providers | {"openai": spec.model_copy(update={"off_peak": (window,)})}}
    )


def patient(routes: Routes) -> Routes:
    """What was the last try is one of many."""
    return routes.model_copy(update={"retries": routes.retries.model_copy(update={"attempts": 9})})


def strict(routes: Routes) -> Routes:
    return routes.model_copy(update={"retries": routes.retries.model_copy(update={"attempts": 1})})


@pytest.mark.parametrize("dies", ["tasks.apply", "dead_letters.send", "replies.send", "events.send", "ledger.put"])
@pytest.mark.parametrize("deployed", [cheaper, patient])
def test_what_a_shard_owes_is_delivered_although_the_next_reading_comes_to_another(tmp_path, deployed, dies):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=600, max_s=600)))
    world.routes = strict(world.routes)
    texts = {"a": "Hello.", "b": "[sim:400] b", "c": "[sim:500-once] c"}
    world.publish(*(task(name, BATCHED, text, reply_to=REPLY_TO) for name, text in texts.items()))

    world.live(running)
    later(world.clock, 700)
    with pytest.raises(Crash):
        world.live(Life.collect, Dies(dies, Side.AFTER))
    before, world.routes = world.routes, deployed(world.routes)

    async def goes_on(life: Life) -> None:
        await life.finish()
        total = life.engine.ledger.total()
        assert (total.answered, total.dead) == (1, 2)
        assert {letter["task"]["task_id"] for letter in life.letters()} == {"b", "c"}

    world.live(goes_on)
    assert {orjson.loads(body)["task_id"] for _, body in world.replies.sent} == set(texts)
    # At the prices of the reading that settled them: receipts are not written anew for a deployment.
    world.routes = before
    assert faults(world) == []


@pytest.mark.parametrize("dies", ["objects.put", "tasks.apply", "parts.apply"])
def test_a_line_that_was_to_go_again_does_though_a_deployment_has_meanwhile_taken_its_tries_away(tmp_path, dies):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=600, max_s=600)))
    world.publish(task("a", BATCHED, "[sim:500-once] a"), task("b", BATCHED, "[sim:500-once] b"))

    world.live(running)
    later(world.clock, 700)
    with pytest.raises(Crash):
        world.live(Life.collect, Dies(dies, Side.AFTER))
    world.routes = strict(world.routes)
    world.live(Life.finish)

    async def ended(life: Life) -> None:
        assert {life.record(name).status for name in "ab"} == {Status.ANSWERED}

    world.live(ended)
    assert faults(world) == []
