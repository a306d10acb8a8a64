"""A consumer killed before and after every call that it makes: what it cost, in one line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice

import orjson

from lowtide.core.task import custom_id
from lowtide.core.tasks import SETTLED, TaskState
from lowtide.ports import System
from tests.sweep.ground import Ground, grounds
from tests.sweep.play import Outcome, Play
from tests.sweep.removals import Removal
from tests.sweep.schedules import CONSUMER, consumers

DIES_ANYWAY = "refuse"
"""The one mark of a consumer's day whose task is dead without any kill."""


@dataclass
class Kills:
    """Sums over plays of one kill each.

    ``dead``: beside those that nobody could have answered. ``repaid``: as rows count it, which is what was claimed at
    the kill, whether it had been sent or not. ``again``: lines that the provider billed beyond one a task;
    ``unaccounted``: those of them that no row counts. ``untold``: tasks that ended and whose sender never heard of it.
    ``failures``: (schedule, fault), the first of each play that broke a promise.
    """

    kills: int = 0
    tasks: int = 0
    lost: int = 0
    dead: int = 0
    repaid: int = 0
    most_in_flight: int = 0
    again: int = 0
    unaccounted: int = 0
    untold: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, play: Play, outcome: Outcome) -> None:
        mine = _counted(play, outcome)
        self.kills += mine.kills
        self.tasks += mine.tasks
        self.lost += mine.lost
        self.dead += mine.dead
        self.repaid += mine.repaid
        self.most_in_flight = max(self.most_in_flight, mine.most_in_flight)
        self.again += mine.again
        self.unaccounted += mine.unaccounted
        self.untold += mine.untold
        if faults := [*outcome.faults, *mine.broken()]:
            self.failures.append((play.schedule.name, faults[0]))

    def broken(self) -> Iterator[str]:
        """Of one play."""
        if self.lost or self.dead:
            yield f"{self.lost} tasks are lost and {self.dead} dead that were not to be"
        if self.repaid > self.most_in_flight:
            yield f"{self.repaid} are repaid, and {self.most_in_flight} were in flight"
        if self.unaccounted:
            yield f"{self.unaccounted} of {self.again} lines that were billed again are not counted"
        if self.untold:
            yield f"{self.untold} replies were never sent"
        if self.kills != 1:
            yield f"the consumer was killed {self.kills} times"

    def __str__(self) -> str:
        return (
            f"sweep-consumer: {self.kills:,} kills, {self.tasks:,} tasks, {self.lost} lost, {self.dead} dead because "
            f"of it, {self.repaid:,} repaid (at most {self.most_in_flight} in flight at a kill), {self.again:,} billed "
            f"again and {self.unaccounted} of them not counted, {self.seconds:.1f} s, {len(self.failures):,} failures"
        )


def kills(rule: Removal | None = None, *, every: int = 1) -> Kills:
    """All of them, or one in ``every`` so many, with all rules or without one."""
    began = time.monotonic()
    figures = Kills()
    with grounds() as home, Ground(home) as ground:
        quiet = Play(CONSUMER, ground).run()
        if quiet.faults:
            raise AssertionError(f"without a kill: {quiet.faults[0]}")
        for schedule in islice(consumers(len(quiet.calls)), 0, None, every):
            with rule.without(ground.engine) if rule is not None else nullcontext():
                play = Play(schedule, ground, system_of=rule.system_of if rule is not None else _as_it_is)
                figures.add(play, play.run())
    figures.seconds = time.monotonic() - began
    return figures


def _as_it_is(system: System) -> System:
    return system


def _counted(play: Play, outcome: Outcome) -> Kills:
    rows = list(play.engine.tasks.scan())
    hopeless = {name for name, _, mark in play.schedule.called if mark == DIES_ANYWAY}
    billed = Counter(line.task for line in play.provider.billed)
    again = {row.key: max(0, billed[_digest(row.tenant, row.task_id)] - 1) for row in rows}
    ended = [row.task_id for row in rows if row.state in SETTLED]
    told = {orjson.loads(reply.body)["task_id"] for reply in play.replies.replies}
    return Kills(
        kills=outcome.crashes,
        tasks=len(play.tasks),
        lost=len(play.tasks) - len(ended),
        dead=sum(row.state is TaskState.DEAD and row.task_id not in hopeless for row in rows),
        repaid=sum(row.repaid for row in rows),
        most_in_flight=outcome.in_flight,
        again=sum(again.values()),
        unaccounted=sum(max(0, again[row.key] - row.repaid) for row in rows),
        untold=len(set(ended) - told),
    )


def _digest(tenant: str, task_id: str) -> str:
    return custom_id(tenant, task_id, 0).rpartition("-")[0]
