"""A line of calls that wait for their moments: nobody stands in it for longer than it said that it could."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from lowtide.core.pace_events import Held
from lowtide.steps.line import SLICE_S, Answer, Asker, Line, Moment, Wait
from lowtide_local.engine.clock import VirtualClock, run_virtual

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def asker(clock: VirtualClock, *, patience_s: float, name: str = "a") -> Asker:
    until = clock.now() + timedelta(seconds=patience_s)
    return Asker(permit=name, seed=name, tokens=0, probe_s=60, until=until, down_until=until)


class Shared:
    """The shared row as a line knows it: one moment at a time, every so often."""

    def __init__(self, clock: VirtualClock, *, every: timedelta, held: Held = Held.RATE) -> None:
        self.clock = clock
        self.every = every
        self.held = held
        self.asked: list[float] = []
        self.next_at = clock.now()

    async def take(self, first: Asker, tokens: Sequence[int]) -> Answer:
        del first, tokens
        now = self.clock.now()
        self.asked.append((now - START).total_seconds())
        if now < self.next_at:
            return Answer((), now, later=self.next_at, held=self.held)
        self.next_at = now + self.every
        return Answer((now,), now, later=self.next_at, held=self.held)


def test_a_newcomer_in_a_hurry_is_told_at_once_that_the_line_sleeps_for_longer():
    async def story(clock: VirtualClock) -> None:
        shared = Shared(clock, every=MINUTE)
        line = Line(clock, shared.take)
        assert isinstance(await line.moment(asker(clock, patience_s=0)), Moment)
        patient = asyncio.create_task(line.moment(asker(clock, patience_s=300, name="patient")))
        await clock.sleep(5)
        came = clock.now()
        turned_away = await line.moment(asker(clock, patience_s=2, name="hurried"))
        assert clock.now() == came
        assert isinstance(turned_away, Wait)
        assert turned_away.held is Held.RATE
        assert turned_away.seconds >= 55
        assert isinstance(await patient, Moment)
        assert len(shared.asked) == 3

    run_virtual(story, START)


def test_a_newcomer_that_can_wait_for_the_next_asking_stands_in_line():
    async def story(clock: VirtualClock) -> None:
        shared = Shared(clock, every=timedelta(seconds=SLICE_S))
        line = Line(clock, shared.take)
        waiting = [
            asyncio.create_task(line.moment(asker(clock, patience_s=20, name=str(number)))) for number in range(5)
        ]
        await clock.sleep(0.1)
        late = await line.moment(asker(clock, patience_s=20, name="late"))
        assert isinstance(late, Moment)
        assert all(isinstance(moment, Moment) for moment in await asyncio.gather(*waiting))

    run_virtual(story, START)


def test_nobody_stands_longer_than_it_said_beyond_one_slice():
    async def story(clock: VirtualClock) -> None:
        shared = Shared(clock, every=MINUTE)
        line = Line(clock, shared.take)

        async def stood(number: int) -> float:
            await clock.sleep(number * 0.7)
            came = clock.now()
            said = asker(clock, patience_s=number % 7, name=str(number))
            await line.moment(said)
            return (clock.now() - came).total_seconds() - number % 7

        await line.moment(asker(clock, patience_s=0))
        patient = asyncio.create_task(line.moment(asker(clock, patience_s=600, name="patient")))
        over = await asyncio.gather(*(stood(number) for number in range(60)))
        assert max(over) <= 1.25 * SLICE_S
        await patient

    run_virtual(story, START)
