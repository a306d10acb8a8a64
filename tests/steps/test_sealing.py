"""Which tasks are batched together and when: sizes, waits, turns, beginnings, cheaper hours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pytest

from lowtide.core.batching import Step
from lowtide.core.lanes import Lane
from lowtide.core.offpeak import OffPeak
from lowtide.core.parts import PartLine
from lowtide.core.records import Status, Usage
from lowtide.core.routes import Routes
from lowtide.steps.drain import drain
from lowtide.steps.seal import seal
from lowtide.steps.sent import Sent
from lowtide.steps.settle import tried
from lowtide.steps.turns import submit_due
from lowtide_local.engine.worker import Pace, Worker
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.sweep.world import Life, World, routes, task, with_batching


def lows(tenant: str, count: int, *, text: str = "Hello.", **fields: Any) -> dict[str, Any]:
    """A pack of tasks."""
    made = [task(f"{tenant}-{number}", "content_generation", text, tenant=tenant, **fields) for number in range(count)]
    return {"tasks": made}


async def running(life: Life) -> None:
    life.accept()
    await life.assemble()


async def drained(life: Life) -> None:
    life.accept()
    drain(life.system)


def tenants_of(life: Life, batch_ids: Sequence[str]) -> list[str]:
    """Of every line of these batches."""
    found = []
    for row in life.system.batches.get(batch_ids):
        for part in life.system.parts.get(row.part_ids):
            found += [orjson.loads(line)["task"]["tenant"] for line in life.system.objects.lines(part.object_key)]
    return found


# --- sizes and waits -----------------------------------------------------------------------------------------------


def test_a_hundred_tasks_are_a_full_batch_where_the_ladder_says_so(tmp_path):
    world = World(tmp_path, routes=with_batching(ladder=(Step(size=100),)))
    world.publish(lows("acme", 250))

    async def story(life: Life) -> None:
        await drained(life)
        assert [batch.requests for batch in seal(life.system)] == [100, 100]

    world.live(story)


def test_the_deeper_the_queue_the_larger_the_batch(tmp_path):
    world = World(tmp_path, routes=with_batching(ladder=(Step(above=60, size=40), Step(size=10))))
    world.publish(lows("acme", 70))

    async def story(life: Life) -> None:
        await drained(life)
        assert [batch.requests for batch in seal(life.system)] == [40]
        assert [batch.requests for batch in seal(life.system)] == [10, 10, 10]

    world.live(story)


def test_a_model_may_have_a_size_of_its_own(tmp_path):
    models = {**routes().models}
    models["gpt-5-mini"] = models["gpt-5-mini"].model_copy(update={"batch_size": 5})
    world = World(tmp_path, routes=routes().model_copy(update={"models": models}))
    world.publish(lows("acme", 11), lows("zeta", 11, model="gpt-4o-mini"))

    async def story(life: Life) -> None:
        await drained(life)
        sealed = seal(life.system, flush=True)
        assert sorted((batch.lot.model, batch.requests) for batch in sealed) == [
            ("gpt-4o-mini", 11),
            ("gpt-5-mini", 1),
            ("gpt-5-mini", 5),
            ("gpt-5-mini", 5),
        ]

    world.live(story)


def test_a_longest_wait_of_half_a_minute_is_kept_to_however_slow_the_pace(tmp_path):
    """By the embedded worker, who is told of no end."""
    world = World(tmp_path, routes=with_batching(max_wait_s=30))
    world.publish(lows("acme", 3))

    async def story(life: Life) -> None:
        pace = Pace(assemble_s=300, poll_s=60, watch_s=60)
        worker = Worker(life.system, pace, lambda name: life.engine.queue(name).next_visible_at())
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run(flush=False))
            await life.pass_time(29)
            assert world.provider.state()["batches"] == []
            await life.pass_time(17)
            assert len(world.provider.state()["batches"]) == 1
            worker.no_more()

    world.live(story)


# --- turns ---------------------------------------------------------------------------------------------------------


def one_at_a_time(size: int) -> Routes:
    return with_batching(max_open_batches=1, ladder=(Step(size=size),), max_requests=size)


def test_a_tenants_ten_tasks_do_not_wait_behind_anothers_thousands_when_one_batch_is_open_at_a_time(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)), routes=one_at_a_time(40))
    world.publish(*[{"tasks": lows("bulk", 1_000)["tasks"][start : start + 500]} for start in range(0, 1_000, 500)])

    async def story(life: Life) -> None:
        await drained(life)
        [first] = seal(life.system)
        assert set(tenants_of(life, [first.batch_id])) == {"bulk"}
        assert seal(life.system) == []
        await submit_due(life.system)

    world.live(story)
    world.publish(lows("small", 10))

    async def after(life: Life) -> None:
        await drained(life)
        while life.system.batches.active():
            await life.pass_time(61)
            await life.collect()
            await life.assemble()
            active = [row.batch_id for row in life.system.batches.active()]
            if "small" in tenants_of(life, active):
                break
        lines = tenants_of(life, active)
        assert lines.count("small") == 10
        answered = life.engine.ledger.total().answered
        assert answered == 40, "only the batch that ran already was before them"

    world.live(after)


def test_tenants_with_many_tasks_drain_into_parts_of_their_own_and_the_others_share_one(tmp_path):
    world = World(tmp_path)
    world.publish(lows("bulk", 200), *(lows(f"small{number}", 3) for number in range(5)))

    async def story(life: Life) -> None:
        await drained(life)
        parts = sorted(life.system.parts.active(), key=lambda part: part.tasks)
        assert [(part.tasks, part.shares) for part in parts] == [(15, {"": 3}), (200, {"bulk": 200})]

    world.live(story)


# --- beginnings ----------------------------------------------------------------------------------------------------


def beginnings(world: World, life: Life) -> list[str]:
    row = life.batch()
    bodies = [orjson.loads(line)["body"] for line in life.system.objects.lines(row.file_key)]
    return [body["messages"][0]["content"][:1] for body in bodies]


def interleaved(tmp_path: Path, scenario: Scenario | None = None) -> World:
    world = World(tmp_path, scenario or Scenario())
    texts = [letter * 3_000 + str(number) for number in range(6) for letter in "abc"]
    world.publish({"tasks": [task(f"t{n}", "content_generation", text) for n, text in enumerate(texts)]})
    return world


def test_lines_with_a_common_beginning_stand_side_by_side(tmp_path):
    world = interleaved(tmp_path)

    async def story(life: Life) -> None:
        await running(life)
        runs = [letter for letter, _ in groupby(beginnings(world, life))]
        assert sorted(runs) == ["a", "b", "c"]
        await life.finish()
        for number in range(18):
            body = life.record(f"t{number}").response.body
            assert life.record(f"t{number}").status is Status.ANSWERED
            assert body is not None

    world.live(story)


def test_a_line_that_the_provider_names_is_counted_in_the_order_of_the_file(tmp_path):
    weather = Scenario(
        batch=BatchWeather(mishaps=(Mishap(kind=MishapKind.FAILS_VALIDATION, batches=(1,), lines=(2,)),))
    )
    world = interleaved(tmp_path, weather)

    async def story(life: Life) -> None:
        await running(life)
        row = life.batch()
        second = list(life.system.objects.lines(row.file_key))[1]
        manifest = [orjson.loads(line) for line in life.system.objects.lines(row.manifest_key)]
        assert manifest[1]["custom_id"] == orjson.loads(second)["custom_id"]
        await life.finish()
        dead = [n for n in range(18) if life.record(f"t{n}").status is Status.DEAD]
        [letter] = life.letters()
        assert [letter["task"]["task_id"]] == [f"t{number}" for number in dead]
        asked = letter["task"]["request"]["body"]["messages"]
        assert asked == orjson.loads(second)["body"]["messages"]

    world.live(story)


# --- cheaper hours -------------------------------------------------------------------------------------------------

WINDOW = OffPeak.model_validate({"from": "2026-03-01", "opens": "16:30", "closes": "20:00", "discount": "0.4"})
OPENS = datetime(2026, 11, 2, 16, 30, tzinfo=UTC)


def off_peak() -> Routes:
    providers = {"openai": routes().providers["openai"].model_copy(update={"off_peak": (WINDOW,)})}
    return routes().model_copy(update={"providers": providers})


def test_what_has_a_day_waits_for_the_cheaper_hour_and_its_receipt_says_so(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)), routes=off_peak())
    world.publish(lows("acme", 1))
    assert world.work()
    [batch] = world.provider.state()["batches"]
    assert timedelta(0) <= datetime.fromtimestamp(batch["created_at"], UTC) - OPENS < timedelta(minutes=10)

    async def look(life: Life) -> None:
        receipt = life.engine.ledger.total()
        assert receipt.cost_usd == receipt.list_cost_usd * Decimal("0.5") * Decimal("0.6")

    world.live(look)


def test_what_would_be_late_is_batched_at_once_at_its_full_price(tmp_path):
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60)), routes=off_peak())
    world.publish(lows("acme", 1, deadline_seconds=9 * 3_600))

    async def story(life: Life) -> None:
        await running(life)
        assert len(world.provider.state()["batches"]) == 1
        await life.pass_time(60)
        await life.collect()
        receipt = life.engine.ledger.total()
        assert receipt.cost_usd == receipt.list_cost_usd / 2

    world.live(story)


@pytest.mark.parametrize(("intent_h", "noted_h", "off"), [(19, 21, "0.4"), (16, 17, "0")])
def test_a_batch_is_priced_by_when_it_was_ordered_and_not_by_when_that_was_noted(tmp_path, intent_h, noted_h, off):
    world = World(tmp_path, routes=off_peak())
    world.publish(lows("acme", 1, deadline_seconds=9 * 3_600))

    async def story(life: Life) -> None:
        await running(life)
        times = {"intent_at": OPENS.replace(hour=intent_h, minute=0), "submitted_at": OPENS.replace(hour=noted_h)}
        row = life.batch().model_copy(update=times)
        [part] = life.system.parts.get(row.part_ids)
        [line] = life.system.objects.lines(part.object_key)
        attempt = tried(life.system, row, Sent(1, PartLine.model_validate_json(line)))
        usage = Usage(input_tokens=1_000, output_tokens=1_000)
        cost = life.system.seller("openai").price("gpt-5-mini", Lane.BATCH, usage, attempt.bought_at)
        full = life.system.prices.cost("gpt-5-mini", Lane.BATCH, usage, OPENS.date())
        assert cost == full * (1 - Decimal(off))
        assert ("off-peak from 16:30 UTC: 40% less" in attempt.reason) == (off != "0")

    world.live(story)


@pytest.mark.parametrize("hour", [17, 19])
def test_inside_the_window_nobody_waits_for_the_next_one(tmp_path, hour):
    world = World(tmp_path, routes=off_peak())
    world.clock.moment = OPENS.replace(hour=hour)
    world.publish(lows("acme", 1))

    async def story(life: Life) -> None:
        await running(life)
        assert len(world.provider.state()["batches"]) == 1

    world.live(story)
