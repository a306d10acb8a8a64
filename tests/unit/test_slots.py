"""Slots: how many at a time, whose turn it is, and which tasks are sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from lowtide.core.acceptance import accept
from lowtide.core.task import AcceptedTask
from lowtide.steps.slot_lines import LEAST_AWAY_S, LONGEST_AWAY_S, PATIENCE_S
from lowtide.steps.slots import Slots
from lowtide_local.engine.clock import run_virtual
from tests.sweep.world import START, routes
from tests.sweep.world import task as message

SLOW, OTHER, THIRD = "gpt-4o", "gpt-4o-mini", "gpt-4.1-mini"
_numbers = count()


def task(tenant: str = "a", model: str = SLOW, *, deadline_s: float = 60) -> AcceptedTask:
    sent = message(f"t{next(_numbers)}", "email_draft", model=model, tenant=tenant)
    accepted = accept(sent, origin="test", sent_at=START, routes=routes())
    return accepted.model_copy(update={"deadline_at": START + timedelta(seconds=deadline_s)})


class Desk:
    """Callers at slots. ``log`` says what became of each, ``away_s`` how long it was told to stay away."""

    def __init__(self, slots: int) -> None:
        self.slots = Slots(slots)
        self.log: list[str] = []
        self.away_s: dict[str, float | None] = {}
        self.ends: dict[str, asyncio.Event] = {}
        self.callers: list[asyncio.Task[None]] = []

    def come(self, name: str, wanted: AcceptedTask, *, takes_s: float | None = None) -> asyncio.Task[None]:
        """A call that takes ``takes_s``, or as long as the test says."""
        self.ends[name] = asyncio.Event()
        caller = asyncio.create_task(self._call(name, wanted, takes_s))
        self.callers.append(caller)
        return caller

    def crowd(self, tasks: Iterable[tuple[str, AcceptedTask]], *, takes_s: float | None = None) -> None:
        for name, wanted in tasks:
            self.come(name, wanted, takes_s=takes_s)

    def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()

    async def close(self) -> None:
        for end in self.ends.values():
            end.set()
        await asyncio.gather(*self.callers, return_exceptions=True)

    async def _call(self, name: str, wanted: AcceptedTask, takes_s: float | None) -> None:
        async with self.slots.turn(wanted) as turn:
            self.log.append(f"{name} {'in' if turn.granted else 'away'}")
            if not turn.granted:
                self.away_s[name] = turn.away_s
            elif takes_s is None:
                await self.ends[name].wait()
            else:
                await asyncio.sleep(takes_s)


def played(story: Coroutine[Any, Any, None]) -> None:
    async def main(_: object) -> None:
        await story

    run_virtual(main, START)


async def moment() -> None:
    await asyncio.sleep(0.001)


def tasks(number: int, tenant: str = "a", model: str = SLOW) -> list[tuple[str, AcceptedTask]]:
    return [(f"{tenant}-{each}", task(tenant, model)) for each in range(number)]


def test_one_model_has_as_many_slots_as_there_are():
    async def story() -> None:
        desk = Desk(2)
        desk.crowd(tasks(3))
        await moment()
        assert desk.log == ["a-0 in", "a-1 in"]
        desk.end("a-0")
        await moment()
        assert desk.log == ["a-0 in", "a-1 in", "a-2 in"]
        await desk.close()

    played(story())


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 10, 30, 40, 50])
def test_another_model_s_first_call_begins_at_once_however_many_one_model_has(slots):
    async def story() -> None:
        desk = Desk(slots)
        desk.crowd(tasks(3 * slots))
        await moment()
        assert desk.log == [f"a-{number} in" for number in range(slots)]
        desk.come("other", task(model=OTHER))
        await moment()
        assert desk.log[-1] == "other in"
        await desk.close()

    played(story())


def test_several_slow_models_together_leave_slots_for_one_more():
    async def story() -> None:
        desk = Desk(40)
        desk.crowd(tasks(100, "a"))
        desk.crowd(tasks(100, "b", OTHER))
        await moment()
        desk.come("third", task(model=THIRD))
        await moment()
        assert desk.log[-1] == "third in"
        await desk.close()

    played(story())


def test_models_take_turns_and_so_do_the_tenants_of_a_model():
    async def story() -> None:
        desk = Desk(1)
        desk.crowd([("first", task("big")), ("beside", task("big", OTHER))])
        await moment()
        desk.crowd([*tasks(5, "big"), *tasks(2, "small"), ("o-0", task("x", OTHER)), ("o-1", task("x", OTHER))])
        await moment()
        log = []
        for _ in range(6):
            desk.end(*desk.ends)
            await moment()
        log = desk.log[2:]
        slow = [each for each in log if not each.startswith("o-")]
        assert slow[:4] == ["big-0 in", "small-0 in", "big-1 in", "small-1 in"]
        assert {"o-0 in", "o-1 in"} < set(log[:4]), "the other model has every second turn"
        await desk.close()

    played(story())


def test_who_waits_is_sent_away_and_who_is_in_goes_on():
    async def story() -> None:
        desk = Desk(1)
        desk.crowd([("first", task("a")), ("second", task("a")), ("third", task("b"))])
        await moment()
        assert desk.slots.send_away() == 2
        await moment()
        assert desk.log == ["first in", "second away", "third away"]
        assert set(desk.away_s.values()) == {None}, "not because of its model"
        desk.end("first")
        await moment()
        desk.come("fourth", task("a"))
        await moment()
        assert desk.log[-1] == "fourth in"
        await desk.close()

    played(story())


def test_a_slot_is_not_lost_with_a_caller_that_is_cancelled():
    async def story() -> None:
        desk = Desk(1)
        desk.come("first", task())
        await moment()
        waits, granted = desk.come("waits", task()), desk.come("granted", task())
        await moment()
        waits.cancel()
        await moment()
        desk.end("first")
        await asyncio.sleep(0)  # "first" gives its slot up
        granted.cancel()  # in the moment in which the slot became its own
        await moment()
        desk.come("last", task())
        await moment()
        assert desk.log[-1] == "last in"
        await desk.close()

    played(story())


def test_a_caller_that_is_cancelled_and_one_that_gives_at_the_same_moment_leave_the_slot_to_the_next():
    async def story() -> None:
        desk = Desk(1)
        desk.come("first", task())
        await moment()
        waits = desk.come("waits", task())
        desk.come("next", task())
        await moment()
        waits.cancel()
        desk.end("first")
        await moment()
        assert desk.log == ["first in", "next in"]
        await desk.close()

    played(story())


# --- a line that stands still ------------------------------------------------------------------------------------


def test_a_line_that_stands_still_keeps_what_it_can_serve_soon_and_sends_the_rest_away():
    async def story() -> None:
        desk = Desk(10)
        desk.crowd(tasks(200))
        await asyncio.sleep(PATIENCE_S / 2)
        assert len(desk.log) == 10, "perhaps its calls are quick"
        await asyncio.sleep(20)
        away = [each for each in desk.log if each.endswith("away")]
        assert 150 <= len(away) <= 180, "the line keeps work for a round of its slots and more"
        assert all(LEAST_AWAY_S <= (each or 0) <= LONGEST_AWAY_S for each in desk.away_s.values())
        assert len(set(desk.away_s.values())) > 20, "they do not come back together"
        await desk.close()

    played(story())


def test_a_line_that_moves_sends_nothing_away():
    async def story() -> None:
        desk = Desk(10)
        desk.crowd(tasks(100), takes_s=0.1)
        await asyncio.sleep(5)
        assert desk.log == [f"a-{number} in" for number in range(100)]

    played(story())


def test_the_longest_line_is_thinned_out_first_and_of_it_the_tenant_with_most_and_the_most_time_left():
    async def story() -> None:
        desk = Desk(4)
        desk.crowd(tasks(100, "big"))
        desk.crowd(tasks(2, "small"))
        desk.crowd([("pressed", task("big", deadline_s=20))])
        desk.crowd(tasks(3, "other", OTHER))
        await asyncio.sleep(10)
        away = {each.split("-")[0] for each in desk.log if each.endswith("away")}
        assert away == {"big"}
        assert "pressed away" not in desk.log
        await desk.close()

    played(story())


def test_what_was_sent_away_comes_back_in_time_for_the_slots_to_stay_busy_and_not_often():
    calls, slots, takes_s = 300, 10, 20.0

    async def story() -> None:
        desk, comes = Desk(slots), dict[str, int]()

        async def until_called(name: str) -> None:
            wanted = task()
            while True:
                comes[name] = comes.get(name, 0) + 1
                await desk.come(name, wanted, takes_s=takes_s)
                if name not in desk.away_s:
                    return
                await asyncio.sleep(desk.away_s.pop(name) or 0)

        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(until_called(f"t{number}") for number in range(calls)))
        assert loop.time() - began <= calls / slots * takes_s * 1.02
        assert max(comes.values()) <= 40
        assert sum(comes.values()) <= 15 * calls
        assert not desk.slots._lines, "nothing is kept of a model that is idle"

    played(story())
