"""Enqueued tokens: a batch that would be refused is not submitted, and a refusal is learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lowtide.core.batches import BatchState
from lowtide.core.records import Status
from lowtide.core.routes import Routes
from lowtide.steps.drain import drain
from lowtide.steps.seal import seal
from lowtide.steps.turns import submit_due
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.sweep.world import Life, World, routes, task, with_batching


def limited(tokens: int, of: Routes | None = None) -> Routes:
    of = of or routes()
    providers = {"openai": of.providers["openai"].model_copy(update={"max_enqueued_tokens": tokens})}
    return of.model_copy(update={"providers": providers})


def lows(*names: str) -> list[dict[str, Any]]:
    """Each asks for 100 tokens and takes some 150 by our estimate."""
    return [task(name, "content_generation") for name in names]


async def running(life: Life) -> None:
    life.accept()
    await life.assemble()


def begin(tmp_path: Path, names: str, **options: Any) -> World:
    weather = {"min_s": 600, "max_s": 600} | options.pop("weather", {})
    world = World(tmp_path, Scenario(batch=BatchWeather(**weather)), **options)
    world.publish(*lows(*names))
    return world


def refused(world: World) -> int:
    return sum(batch["status"] == "failed" for batch in world.provider.state()["batches"])


def assert_all_answered(world: World, names: str) -> None:
    async def look(life: Life) -> None:
        for name in names:
            assert life.record(name).status is Status.ANSWERED
            assert life.row(name).strikes.failures == 0

    world.live(look)


def test_what_would_not_fit_at_the_provider_is_not_submitted_and_goes_when_there_is_room(tmp_path):
    world = begin(tmp_path, "abcdefgh", routes=limited(400), weather={"max_enqueued_tokens": 1_000})

    async def story(life: Life) -> None:
        await running(life)
        assert sum(row.tokens for row in life.system.batches.active()) <= 400
        assert world.metrics.total("tasks_waiting_for_tokens") > 0

    world.live(story)
    assert world.work()
    assert refused(world) == 0
    assert len(world.provider.state()["batches"]) > 1
    assert_all_answered(world, "abcdefgh")


def test_a_sealed_batch_without_room_waits_as_it_is(tmp_path):
    world = begin(tmp_path, "a")

    async def story(life: Life) -> None:
        await running(life)

    world.live(story)
    world.publish(*lows("b"))

    async def sealed(life: Life) -> None:
        life.accept()
        drain(life.system)
        assert len(seal(life.system, flush=True)) == 1

    world.live(sealed)
    world.routes = limited(200)

    async def after(life: Life) -> None:
        assert await submit_due(life.system) == 0
        [waiting] = [row for row in life.system.batches.active() if row.state is BatchState.SEALED]
        assert (waiting.setbacks, waiting.submission, waiting.not_before) == (0, 1, None)
        assert world.metrics.total("tasks_waiting_for_tokens") == 1
        await life.pass_time(601)
        await life.collect()
        assert await submit_due(life.system) == 1

    world.live(after)


def test_a_limit_that_nobody_wrote_down_is_learned_from_a_refusal(tmp_path):
    world = begin(tmp_path, "ab", weather={"max_enqueued_tokens": 500})

    async def first(life: Life) -> None:
        await running(life)

    world.live(first)
    world.publish(*lows("c", "d", "e", "f"))

    async def second(life: Life) -> None:
        await running(life)
        await life.pass_time(60)
        await life.collect()
        assert refused(world) == 1
        assert world.metrics.total("token_limits") == 1
        await life.pass_time(300)
        assert await submit_due(life.system) == 0, (
            "the first one still runs, and it is known now that both are too much"
        )
        await life.finish()

    world.live(second)
    assert refused(world) == 1
    assert_all_answered(world, "abcdef")


def test_a_batch_that_is_larger_than_the_limit_itself_goes_again_in_halves_that_fit(tmp_path):
    world = begin(tmp_path, "abcdefgh", weather={"max_enqueued_tokens": 550})
    assert world.work()
    assert refused(world) <= 4
    assert_all_answered(world, "abcdefgh")


def test_a_part_that_is_drained_is_no_larger_than_the_limit(tmp_path):
    world = World(tmp_path, routes=limited(500, with_batching(max_tokens=5_000)))
    world.publish({"tasks": lows(*"abcdefgh")})

    async def story(life: Life) -> None:
        life.accept()
        drain(life.system)
        assert all(part.tokens <= 500 for part in life.system.parts.active())
        assert sum(part.tasks for part in life.system.parts.active()) == 8

    world.live(story)
