"""The assembler's turns: what is broken harms itself alone, and every step gets its share of the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from lowtide.core.batches import BatchState
from lowtide.core.errors import LowtideError
from lowtide.core.holds import Lift, Place, Scope
from lowtide.core.pace_events import CallEnd, Sign, Tell
from lowtide.core.pace_rows import model_key
from lowtide.core.parts import Lot, Open, PartRow, PartState
from lowtide.core.records import Status
from lowtide.core.routes import Routes
from lowtide.core.task import Endpoint
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Change, Outgoing, Queue
from lowtide.steps import rescue
from lowtide.steps.cancel import CancelOutcome, cancel_tasks
from lowtide.steps.drain import drain
from lowtide.steps.preserve import AT_ONCE, preserve
from lowtide.steps.seal import seal
from lowtide.steps.turns import assemble
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.steps.books import faults
from tests.sweep.world import Life, World, routes, task, with_batching

QUICK = Scenario(batch=BatchWeather(min_s=60, max_s=60))
TURN_S = 300
HUGE = {"why": "z" * 450_000}
"""More than a row holds."""


def low(name: str, **fields: Any) -> dict[str, Any]:
    return task(name, "content_generation", **fields)


def world_of(tmp_path: Path, *messages: object, of: Routes | None = None) -> World:
    world = World(tmp_path, QUICK, of or routes())
    world.publish(*messages)
    return world


def sent(life: Life, message: dict[str, Any]) -> None:
    """To ingest, while the process lives."""
    life.engine.queue("intake").send([Outgoing(orjson.dumps(message).decode())])
    life.accept()


async def turns(life: Life, count: int) -> list[Exception]:
    """What went wrong in them."""
    errors: list[Exception] = []
    for _ in range(count):
        try:
            await life.assemble()
        except ExceptionGroup as failed:
            errors += failed.exceptions
        await life.collect()
        await life.pass_time(TURN_S)
    return errors


# --- what is broken ------------------------------------------------------------------------------------------------


def test_a_task_cancelled_before_its_claim_gets_its_record_whatever_its_tags_and_the_drain_goes_on(tmp_path):
    world = world_of(tmp_path, low("x", tags=HUGE), low("y"))

    async def story(life: Life) -> None:
        life.accept()
        assert cancel_tasks(life.system, [("default", "x")]) == [CancelOutcome.CANCELLING]
        assert await turns(life, 5) == []
        assert (life.record("x").status, life.record("x").tags) == (Status.CANCELLED, {})
        assert life.record("y").status is Status.ANSWERED

    world.live(story)
    assert faults(world) == []


def test_a_staged_task_is_cancelled_whatever_its_tags(tmp_path):
    world = world_of(tmp_path, low("x", tags=HUGE), low("y", tags={"team": "growth"}))

    async def story(life: Life) -> None:
        life.accept()
        drain(life.system)
        assert set(cancel_tasks(life.system, [("default", "x"), ("default", "y")])) == {CancelOutcome.CANCELLED}
        assert life.record("y").tags == {"team": "growth"}, "tags that fit are kept"

    world.live(story)


def two_providers() -> Routes:
    shipped = routes()
    elsewhere = shipped.models["gpt-4.1-mini"].model_copy(update={"provider": "other"})
    return shipped.model_copy(
        update={
            "providers": shipped.providers | {"other": shipped.providers["openai"]},
            "models": shipped.models | {"elsewhere": elsewhere},
        }
    )


@pytest.mark.parametrize("staged", [False, True])
def test_work_for_a_provider_that_left_the_routes_waits_told_of_and_keeps_no_other_waiting(tmp_path, staged):
    world = world_of(tmp_path, of=two_providers())

    async def before(life: Life) -> None:
        sent(life, low("x", model="elsewhere"))
        sent(life, low("y"))
        if staged:
            drain(life.system)

    async def after(life: Life) -> None:
        errors = await turns(life, 5)
        assert "no provider other" in str(errors[0].exceptions[0] if isinstance(errors[0], ExceptionGroup) else errors)
        assert life.record("y").status is Status.ANSWERED
        if staged:
            assert [part.lot.model for part in life.system.parts.active()] == ["elsewhere"]
        else:
            assert world.metrics.total("message_errors") > 0
            [row] = life.system.tasks.get(["x default"])
            assert row is None, "nobody has claimed it"

    async def back(life: Life) -> None:
        await life.pass_time(900)
        drain(life.system)
        assert [(part.lot.model, part.state) for part in life.system.parts.active()] == [
            ("elsewhere", PartState.CLOSED)
        ]

    world.live(before)
    world.routes = routes()
    world.live(after)
    world.routes = two_providers()
    world.live(back)


def test_a_part_that_cannot_be_written_keeps_its_messages_and_no_others(tmp_path):
    world = world_of(tmp_path)

    async def story(life: Life) -> None:
        sent(life, low("x"))
        sent(life, low("y", model="gpt-4.1-mini"))
        put, failed = life.engine.objects.put, []

        def fails_once(key: str, content: object) -> None:
            if not failed:
                failed.append(key)
                raise LowtideError("the bucket does not answer")
            put(key, content)

        life.engine.objects.put = fails_once
        drained = drain(life.system)
        assert ([str(error) for error in drained.errors], len(drained.parts)) == (["the bucket does not answer"], 1)
        await life.pass_time(life.system.routes.batching.lease_s)
        assert (len(drain(life.system).parts), life.waiting(Tier.LOW)) == (1, 0)
        await life.finish()

    world.live(story)
    assert faults(world) == []


def small_part(number: int, now: datetime) -> PartRow:
    name = f"p-{number:024x}"
    return PartRow(
        part_id=name,
        lot=Lot(provider="openai", model="gpt-5-mini", endpoint=Endpoint.CHAT),
        object_key=f"parts/{name}.jsonl",
        tasks=1,
        bytes=100,
        tokens=10,
        oldest_at=now,
        tightest_deadline=now + timedelta(days=1),
        created_at=now,
        state=PartState.CLOSED,
    )


def test_more_small_parts_than_a_row_can_name_become_several_batches(tmp_path):
    world = world_of(tmp_path)

    async def story(life: Life) -> None:
        now = life.system.clock.now()
        parts = [small_part(number, now) for number in range(4_100)]
        life.system.parts.apply([Change(part.part_id, Open(part)) for part in parts], now)
        with pytest.raises(ExceptionGroup):  # they have no objects
            seal(life.system, flush=True)
        assert sorted(len(row.part_ids) for row in life.system.batches.active()) == [100, 2_000, 2_000]

    world.live(story)


# --- the cap on open batches ---------------------------------------------------------------------------------------


def goes_down(life: Life, model: str) -> None:
    key, now = model_key("openai", model), life.system.clock.now()
    ends = tuple(CallEnd(Sign.FAILED, now, f"{now} {n}", witness=str(n)) for n in range(10))
    life.system.paces.apply([Change(key, Tell(key, ends))], now)


def test_batches_that_waited_together_do_not_go_together_beyond_the_cap(tmp_path):
    world = world_of(tmp_path, of=with_batching(max_open_batches=3))
    models = ("gpt-5-mini", "gpt-4.1-mini", "gpt-4o-mini")

    async def story(life: Life) -> None:
        for number in range(3):
            for model in models:
                goes_down(life, model)
                sent(life, low(f"{model}-{number}", model=model))
            await life.assemble()
        waiting = [row.state for row in life.system.batches.active()]
        assert waiting == [BatchState.SEALED] * len(waiting)
        assert len(waiting) > 3, "each lot has places of its own"
        most = 0
        for _ in range(40):
            await life.pass_time(300)
            await life.assemble()
            most = max(most, sum(row.state is BatchState.RUNNING for row in life.system.batches.active()))
            await life.collect()
        assert most == 3
        assert {life.row(f"{model}-{n}").state for model in models for n in range(3)} == {TaskState.ANSWERED}

    world.live(story)


def test_batches_that_wait_for_a_model_that_does_not_answer_take_no_places_of_others(tmp_path):
    world = world_of(tmp_path, of=with_batching(max_open_batches=3))

    async def story(life: Life) -> None:
        for number in range(5):
            goes_down(life, "gpt-5-mini")
            sent(life, low(f"a{number}"))
            await life.assemble()
        assert [row.state for row in life.system.batches.active()] == [BatchState.SEALED] * 3, "the lot's own cap"
        sent(life, low("well", model="gpt-4.1-mini"))
        await life.assemble()
        assert [row.lot.model for row in life.system.batches.active() if row.state is BatchState.RUNNING] == [
            "gpt-4.1-mini"
        ]
        await turns(life, 12)
        assert {life.row(name).state for name in ("well", *(f"a{n}" for n in range(5)))} == {TaskState.ANSWERED}

    world.live(story)


# --- the time ------------------------------------------------------------------------------------------------------


class NeverEmpty:
    """A LOW queue that has another message whenever one asks, after a second."""

    def __init__(self, inner: Queue, life: Life) -> None:
        self._inner = inner
        self._life = life

    def receive(self, limit: int, *, visibility_s: int) -> Sequence[object]:
        stands_still(self._life, 1)
        self._inner.send([Outgoing("{}")])
        return self._inner.receive(limit, visibility_s=visibility_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def stands_still(life: Life, seconds: float) -> None:
    life.world.clock.running._loop.jump(seconds)


def test_a_queue_that_never_ends_keeps_nothing_that_is_sealed_from_its_provider(tmp_path):
    world = world_of(tmp_path, low("a"))

    async def story(life: Life) -> None:
        life.accept()
        drain(life.system)
        seal(life.system, flush=True)
        queues = life.system.tiers | {Tier.LOW: NeverEmpty(life.system.tiers[Tier.LOW], life)}
        begun = life.system.clock.now()
        await assemble(replace(life.system, tiers=queues), stop_at=begun + timedelta(seconds=60))
        assert [row.state for row in life.system.batches.active()] == [BatchState.RUNNING]
        assert life.system.clock.now() - begun < timedelta(seconds=60)

    world.live(story)


def test_parts_that_are_slow_to_rescue_make_no_turn_longer_than_its_time_and_are_all_rescued(tmp_path, monkeypatch):
    tenants = [f"c{number}" for number in range(12)]
    scopes = [Scope(tenant=tenant) for tenant in tenants]
    world = world_of(tmp_path, *[low(f"of-{tenant}", tenant=tenant) for tenant in tenants])

    async def story(life: Life) -> None:
        life.system.holds.apply([Change(s.text, Place(s, "over budget")) for s in scopes], life.system.clock.now())
        life.accept()
        drain(life.system)
        await life.pass_time(2 * 86_400)
        life.system.holds.apply([Change(s.text, Lift()) for s in scopes], life.system.clock.now())
        one = rescue._rescue_part

        def slow(*of: Any) -> None:
            stands_still(life, 60)
            one(*of)

        monkeypatch.setattr(rescue, "_rescue_part", slow)
        begun = life.system.clock.now()
        await assemble(life.system, stop_at=begun + timedelta(seconds=360))
        assert timedelta(seconds=60) <= life.system.clock.now() - begun < timedelta(seconds=360)
        await life.finish()
        rows = life.system.tasks.get([f"of-{tenant} {tenant}" for tenant in tenants])
        assert all(row is not None and row.rescued_from is not None and row.state is TaskState.QUEUED for row in rows)

    world.live(story)


def test_a_turn_whose_time_is_up_leaves_the_other_batches_to_the_next(tmp_path):
    world = world_of(tmp_path, low("a"), low("b", model="gpt-4.1-mini"))

    async def story(life: Life) -> None:
        put = life.engine.objects.put

        def slow(key: str, content: object) -> None:
            stands_still(life, 11 if key.endswith("input.jsonl") else 0)
            put(key, content)

        life.engine.objects.put = slow
        life.accept()
        drain(life.system)
        stop_at = life.system.clock.now() + timedelta(seconds=10)
        assert len(seal(life.system, flush=True, stop_at=stop_at)) == 1
        assert len(seal(life.system)) == 1, "it was started, and is sealed without being due anew"
        await life.finish()

    world.live(story)
    assert faults(world) == []


def test_held_parts_are_all_kept_however_many_and_those_first_that_have_waited_longest(tmp_path):
    world = world_of(tmp_path)
    count = 3 * AT_ONCE

    async def story(life: Life) -> None:
        now = life.system.clock.now()
        parts = [small_part(number, now) for number in range(count)]
        for part in parts:
            life.system.objects.put(part.object_key, b"x\n")
        life.system.parts.apply([Change(part.part_id, Open(part)) for part in parts], now)
        await life.pass_time(6 * 86_400)
        assert preserve(life.system, stop_at=life.system.clock.now()) == AT_ONCE
        await life.pass_time(6 * 86_400)
        assert preserve(life.system, stop_at=life.system.clock.now()) == AT_ONCE
        assert sum(part.kept_at is None for part in life.system.parts.active()) == count - 2 * AT_ONCE
        assert preserve(life.system, stop_at=life.system.clock.now() + timedelta(seconds=60)) == count - AT_ONCE

    world.live(story)
