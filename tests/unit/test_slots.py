"""Slots: how many at a time, whose turn it is, and who is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lowtide.steps.slots import Slots


async def at_work(slots: Slots, tenant: str, name: str, log: list[str], release: asyncio.Event | None = None) -> None:
    async with slots.turn(tenant) as granted:
        log.append(f"{name} {'in' if granted else 'away'}")
        if granted:
            await (release.wait() if release else asyncio.sleep(0))


def queued(slots: Slots, log: list[str], callers: Sequence[tuple[str, str]]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(at_work(slots, tenant, name, log)) for tenant, name in callers]


def test_no_more_are_in_than_there_are_slots():
    async def story() -> None:
        slots, log, release = Slots(2), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(at_work(slots, "a", str(number), log, release)) for number in range(3)]
        await asyncio.sleep(0.01)
        assert log == ["0 in", "1 in"]
        release.set()
        await asyncio.gather(*tasks)
        assert log == ["0 in", "1 in", "2 in"]

    asyncio.run(story())


def test_tenants_take_turns_however_many_one_of_them_has_waiting():
    async def story() -> None:
        slots, log, release = Slots(1), list[str](), asyncio.Event()
        holder = asyncio.create_task(at_work(slots, "big", "first", log, release))
        await asyncio.sleep(0)
        callers = [("big", f"big-{number}") for number in range(50)] + [("small", "small-0"), ("small", "small-1")]
        tasks = queued(slots, log, callers)
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(holder, *tasks)
        assert log[:5] == ["first in", "big-0 in", "small-0 in", "big-1 in", "small-1 in"]
        assert len(log) == 53

    asyncio.run(story())


def test_who_waits_is_sent_away_and_who_is_in_goes_on():
    async def story() -> None:
        slots, log, release = Slots(1), list[str](), asyncio.Event()
        holder = asyncio.create_task(at_work(slots, "a", "first", log, release))
        await asyncio.sleep(0)
        tasks = queued(slots, log, [("a", "second"), ("b", "third")])
        await asyncio.sleep(0)
        assert slots.send_away() == 2
        await asyncio.gather(*tasks)
        assert log == ["first in", "second away", "third away"]
        release.set()
        await holder
        await at_work(slots, "a", "fourth", log)
        assert log[-1] == "fourth in"

    asyncio.run(story())


def test_a_slot_is_not_lost_with_a_caller_that_is_cancelled():
    async def story() -> None:
        slots, log = Slots(1), list[str]()
        async with slots.turn("a"):
            [waits, granted] = queued(slots, log, [("a", "waits"), ("a", "granted")])
            await asyncio.sleep(0)
            waits.cancel()
            await asyncio.sleep(0)
        granted.cancel()  # in the moment in which the slot became its own
        await asyncio.gather(waits, granted, return_exceptions=True)
        await asyncio.wait_for(at_work(slots, "a", "last", log), 1)
        assert log == ["last in"]

    asyncio.run(story())
