"""CRITICAL kept waiting: what HIGH and NORMAL have in hand and have not begun goes back, and is answered later."""

from __future__ import annotations

import asyncio

import pytest

from lowtide.core.preemption import LONGEST_REST_S, Preemption, rest_s
from lowtide.core.tiers import Tier
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario
from tests.sweep.world import Life, World, routes, task

SLOW = Scenario(latency=Latencies(default=Latency(min_s=8, max_s=8), flex=Latency(min_s=8, max_s=8)))


def normal(*names: str):
    return [task(name, "meeting_summary") for name in names]


def begin(tmp_path, *, enabled: bool = True) -> World:
    return World(tmp_path, SLOW, routes().model_copy(update={"preemption": Preemption(enabled=enabled)}))


def calls(world: World) -> int:
    return world.provider.requests["POST /v1/chat/completions"]


def test_what_has_not_begun_goes_back_and_what_has_goes_on(tmp_path):
    world = begin(tmp_path)
    world.publish({"tasks": normal("a", "b", "c", "d")}, task("chat", "live_chat_response"))

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.NORMAL, slots=1)
        assert calls(world) == 1, "CRITICAL had waited for five seconds when the first call was under way"
        assert len(report.again) == 1
        assert world.metrics.total("tasks_preempted") == 3
        await life.answer(Tier.CRITICAL)
        await life.pass_time(10)
        await life.answer(Tier.NORMAL, slots=4)
        rows = [life.row(name) for name in "abcd"]
        assert [(row.state, row.attempt) for row in rows] == [("answered", 1)] * 4
        assert calls(world) == 5

    world.live(story)


def test_nothing_begins_where_critical_has_waited_already(tmp_path):
    world = begin(tmp_path)
    world.publish(*normal("a", "b"), task("chat", "live_chat_response"))

    async def story(life: Life) -> None:
        life.accept()
        await life.pass_time(6)
        report = await life.answer(Tier.NORMAL)
        assert (len(report.done), len(report.again), calls(world)) == (0, 1, 0)

    world.live(story)


def test_critical_yields_to_nobody(tmp_path):
    world = begin(tmp_path)
    world.publish(*(task(f"chat-{number}", "live_chat_response") for number in range(3)))

    async def story(life: Life) -> None:
        life.accept()
        await life.pass_time(6)
        report = await life.answer(Tier.CRITICAL)
        assert (len(report.done), calls(world)) == (1, 3)

    world.live(story)


def test_with_preemption_switched_off_all_go_on(tmp_path):
    world = begin(tmp_path, enabled=False)
    world.publish(*normal("a", "b"), task("chat", "live_chat_response"))

    async def story(life: Life) -> None:
        life.accept()
        await life.pass_time(6)
        report = await life.answer(Tier.NORMAL)
        assert (len(report.done), calls(world)) == (1, 2)

    world.live(story)


def test_a_small_tenant_s_task_has_its_turn_among_a_large_one_s_in_hand(tmp_path):
    world = begin(tmp_path)
    world.publish({"tasks": [task(f"big-{number}", "meeting_summary", tenant="big") for number in range(8)]})
    world.publish(task("small", "meeting_summary", tenant="small"))

    async def story(life: Life) -> None:
        life.accept()
        working = asyncio.create_task(life.answer(Tier.NORMAL, slots=1))
        await life.pass_time(17)
        [small] = life.system.tasks.get(["small small"])
        assert small is not None
        assert small.state in ("calling", "answered")
        await working

    world.live(story)


@pytest.mark.parametrize(("receives", "least"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (1000, 60)])
def test_what_is_handed_back_rests_longer_each_time(receives, least):
    assert least <= rest_s(receives, "seed") <= least * 1.5
    assert rest_s(receives, "seed") <= LONGEST_REST_S * 1.5
