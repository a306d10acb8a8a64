from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from lowtide.core.errors import NotFound
from lowtide.core.tiers import Tier
from lowtide.ports import Outgoing, System
from lowtide_local.engine.crashes import Crash, CrashPlan, Side, every_crash
from lowtide_local.engine.engine import Engine


class Port:
    """One method of each kind; ``effects`` are those that happened."""

    colour = "green"

    def __init__(self) -> None:
        self.effects: list[str] = []

    def plain(self, value: int, *, more: int = 0) -> int:
        self.effects.append("plain")
        return value + more

    async def waited(self, value: int) -> int:
        self.effects.append("waited began")
        await asyncio.sleep(0)
        self.effects.append("waited ended")
        return value

    def iterated(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.effects.append(f"item {number}")
            yield number

    async def streamed(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            self.effects.append(f"item {number}")
            yield number

    def failing(self) -> None:
        self.effects.append("failing")
        raise NotFound("nothing here")


async def life(port: Port) -> list[object]:
    """Four calls, one of each kind."""
    return [
        port.plain(1, more=2),
        await port.waited(4),
        list(port.iterated(2)),
        [item async for item in port.streamed(2)],
    ]


EFFECTS = [["plain"], ["waited began", "waited ended"], ["item 0", "item 1"], ["item 0", "item 1"]]
"""Of each of the four calls."""


def test_a_plan_without_a_crash_changes_nothing_and_records_the_calls() -> None:
    plan = CrashPlan()
    assert asyncio.run(life(plan.guard(Port(), "port"))) == [3, 4, [0, 1], [0, 1]]
    assert plan.calls == ["port.plain", "port.waited", "port.iterated", "port.streamed"]
    assert not plan.crashed


@pytest.mark.parametrize("plan", list(every_crash(4)), ids=repr)
def test_a_crash_before_a_call_prevents_it_and_a_crash_after_only_hides_its_reply(plan: CrashPlan) -> None:
    port = Port()
    with pytest.raises(Crash):
        asyncio.run(life(plan.guard(port, "port")))
    assert plan.at is not None
    happened = plan.at if plan.side is Side.AFTER else plan.at - 1
    assert port.effects == [effect for effects in EFFECTS[:happened] for effect in effects]
    assert plan.crashed
    assert len(plan.calls) == plan.at


def test_a_sweep_visits_both_sides_of_every_call() -> None:
    assert [(plan.at, plan.side) for plan in every_crash(2)] == [
        (1, Side.BEFORE),
        (1, Side.AFTER),
        (2, Side.BEFORE),
        (2, Side.AFTER),
    ]


def test_the_dead_do_nothing_more() -> None:
    port, plan = Port(), CrashPlan(1)
    guarded = plan.guard(port, "port")
    other = plan.guard(port, "other")
    with pytest.raises(Crash):
        guarded.plain(1)
    for call in (guarded.plain, other.plain):
        with pytest.raises(Crash, match="already dead"):
            call(1)
    assert port.effects == []
    assert plan.calls == ["port.plain"]


def test_who_waits_while_another_dies_gets_no_reply() -> None:
    port, plan = Port(), CrashPlan(2)
    guarded = plan.guard(port, "port")

    async def both() -> list[object]:
        return [*await asyncio.gather(guarded.waited(1), die(), return_exceptions=True)]

    async def die() -> None:
        guarded.plain(1)

    results = asyncio.run(both())
    assert [type(result) for result in results] == [Crash, Crash]
    assert port.effects == ["waited began", "waited ended"]


def test_an_errors_reply_can_be_lost_as_well() -> None:
    port = Port()
    with pytest.raises(Crash):
        CrashPlan(1, Side.AFTER).guard(port, "port").failing()
    assert port.effects == ["failing"]
    with pytest.raises(NotFound):
        CrashPlan().guard(port, "port").failing()


def test_a_crash_is_no_error_that_steps_could_handle() -> None:
    assert not issubclass(Crash, Exception)


def test_a_stream_that_is_left_early_is_one_call() -> None:
    plan = CrashPlan(1, Side.AFTER)
    items = plan.guard(Port(), "port").iterated(9)
    assert next(items) == 0
    del items
    assert not plan.crashed


def test_what_is_no_method_passes_through() -> None:
    plan = CrashPlan()
    assert plan.guard(Port(), "port").colour == "green"
    assert plan.calls == []


def test_a_guarded_system_numbers_every_port_and_leaves_the_rest_alone() -> None:
    outward = (
        "intake",
        "dead_letters",
        "stranded",
        "objects",
        "tasks",
        "parts",
        "batches",
        "paces",
        "holds",
        "levels",
        "ledger",
        "replies",
        "events",
        "callbacks",
    )
    inward = ("deployment", "routes", "prices", "own_prices", "clock", "metrics", "offload")
    fields: dict[str, Any] = {name: Port() for name in (*outward, *inward)}
    named: dict[str, Any] = {
        "tiers": {tier: Port() for tier in Tier},
        "answers": {"openai": Port()},
        "batch_apis": {"openai": Port()},
    }
    system = System(**fields, **named)
    plan = CrashPlan()
    guarded: Any = plan.guard_system(system)
    assert set(fields) | set(named) == {field.name for field in dataclasses.fields(System)}
    for name in inward:
        assert getattr(guarded, name) is fields[name]
    for port in (
        *(getattr(guarded, name) for name in outward),
        *(port for name in named for port in getattr(guarded, name).values()),
    ):
        port.plain(1)
    assert plan.calls == [
        *(f"{name}.plain" for name in outward),
        *(f"{tier.value.lower()}.plain" for tier in Tier),
        "answers.openai.plain",
        "batch_apis.openai.plain",
    ]


def test_storage_survives_a_crash_on_either_side_of_a_send(engine: Engine) -> None:
    for side, visible in ((Side.BEFORE, 0), (Side.AFTER, 1)):
        queue = CrashPlan(1, side).guard(engine.queue("low"), "low")
        with pytest.raises(Crash):
            queue.send([Outgoing("one")])
        assert engine.queue("low").depth().visible == visible
