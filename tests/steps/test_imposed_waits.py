"""A wait that a provider imposes is said: once, with how long it would have it, and only where it is long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lowtide.core.errors import ProviderRefused
from lowtide.core.outcomes import Response
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.steps.imposed_waits import ImposedWaits
from tests.steps.one_tier import answered, begin
from tests.steps.test_account_or_item import tasks, wired
from tests.sweep.world import Life, World, task


def waits(world: World) -> list[dict[str, Any]]:
    return [dict(line.fields) for line in world.metrics.lines if line.event == "provider_wait"]


def limited(seconds: float | None, message: str = "Rate limit reached.") -> Response:
    return Response(429, {"error": {"code": "rate_limit_exceeded", "message": message}}, retry_after_s=seconds)


@pytest.mark.parametrize(
    ("response", "wait_s", "asked_s"),
    [
        (limited(120.0), 120, 120),
        (limited(86_400.0), 900, 86_400),
        (limited(None, "Please try again in 6m0s."), 360, 360),
        (Response(503, {"error": {"message": "Down for now."}}, retry_after_s=200.0), 200, 200),
    ],
)
def test_a_long_wait_is_said_once_however_many_tasks_wait(tmp_path, response, wait_s, asked_s):
    world = begin(tmp_path, *tasks(12))

    async def story(life: Life) -> None:
        life, api = wired(life, lambda _: response)
        life.accept()
        for _ in range(3):
            await life.answer(Tier.HIGH)
            await life.pass_time(1)
        [said] = waits(world)
        assert (said["model"], said["wait_s"], said["asked_s"]) == ("openai gpt-5-mini", wait_s, asked_s)
        assert world.metrics.total("provider_wait_s") == pytest.approx(wait_s, abs=1)
        api.said = lambda _: None
        await life.pass_time(wait_s)
        await answered(life)
        assert {row.state for row in life.engine.tasks.scan()} == {TaskState.ANSWERED}
        assert len(waits(world)) == 1

    world.live(story)


def test_a_short_wait_is_not_said(tmp_path):
    world = begin(tmp_path, *tasks(3))

    async def story(life: Life) -> None:
        life, api = wired(life, lambda _: limited(20.0))
        life.accept()
        await life.answer(Tier.HIGH)
        api.said = lambda _: None
        await life.pass_time(30)
        await answered(life)
        assert waits(world) == []

    world.live(story)


def test_the_next_wait_is_said_too(tmp_path):
    world = begin(tmp_path, *tasks(1))

    async def story(life: Life) -> None:
        life, _ = wired(life, lambda _: limited(60.0))
        life.accept()
        for _ in range(3):
            await life.answer(Tier.HIGH)
            await life.pass_time(100)
        assert len(waits(world)) == 3

    world.live(story)


def test_a_batch_that_has_to_wait_says_so_and_is_tried_within_a_quarter_of_an_hour(tmp_path):
    world = begin(tmp_path, task("bulk", "content_generation"))

    async def story(life: Life) -> None:
        refusal = ProviderRefused(429, "rate_limit_exceeded", "Too many batches.", retry_after_s=86_400.0)
        api = _Refusing(life.system.batch_apis["openai"], refusal)
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        life.accept()
        await life.assemble()
        [said] = waits(world)
        assert (said["wait_s"], said["asked_s"]) == (900, 86_400)
        await life.pass_time(901)
        await life.finish()
        assert life.row("bulk").state is TaskState.ANSWERED

    world.live(story)


class _Refusing:
    """A ports.BatchApi that refuses the first upload."""

    def __init__(self, api: Any, refusal: ProviderRefused) -> None:
        self._api, self._refusal = api, refusal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def prepare(self, key: Any, lines: Any) -> Any:
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal
        return await self._api.prepare(key, lines)


def test_one_call_s_long_wait_does_not_mute_that_of_all(tmp_path):
    world = begin(tmp_path, *tasks(1))

    async def story(life: Life) -> None:
        said = ImposedWaits(life.system)
        now = life.system.clock.now()
        said.met("openai gpt-5-mini", "rate_limit_exceeded", None, 900.0)
        said.met("openai gpt-5-mini", "rate_limit_exceeded", now + timedelta(seconds=120), 120.0)
        said.met("openai gpt-5-mini", "rate_limit_exceeded", now + timedelta(seconds=120), 120.0)
        assert [each["wait_s"] for each in waits(world)] == [900, 120]

    world.live(story)
