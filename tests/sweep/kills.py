"""Consumers killed before and after every call that they make, and refused at every call: what it cost, in one line."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import orjson

from lowtide.core.task import custom_id
from lowtide.core.tasks import SETTLED, TaskState
from tests.sweep.campaign import Progress, campaign, ground_of
from tests.sweep.ground import Ground, grounds
from tests.sweep.play import Outcome, Play
from tests.sweep.promises import questions
from tests.sweep.removals import Removal
from tests.sweep.schedules import CONSUMER, consumers, consumers_raised, named

DIES_ANYWAY = "refuse"
"""The one mark of a consumer's day whose task is dead without any kill."""


@dataclass
class Kills:
    """Sums over plays.

    ``dead``: beside those that nobody could have answered. ``repaid``: as rows count it, which is what was claimed at
    a kill, whether it had been sent or not. ``again``: lines that the provider billed beyond one a task;
    ``unaccounted``: those of them that no row counts. ``untold``: tasks that ended and whose sender never heard of it.
    ``failures``: (schedule, fault), the first of each play that broke a promise.
    """

    schedules: int = 0
    kills: int = 0
    raised: int = 0
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
        if faults := [*outcome.faults, *mine.broken(play)]:
            mine.failures.append((play.schedule.name, faults[0]))
        self.include(mine)

    def include(self, other: Kills) -> None:
        most = max(self.most_in_flight, other.most_in_flight)
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.most_in_flight = most

    def broken(self, play: Play) -> Iterator[str]:
        """Of one play."""
        if self.lost or (self.dead and not play.schedule.unwell):
            yield f"{self.lost} tasks are lost and {self.dead} dead that were not to be"
        if self.unaccounted:
            yield f"{self.unaccounted} of {self.again} lines that were billed again are not counted"
        if self.untold:
            yield f"{self.untold} replies were never sent"
        if play.schedule.voids is None:
            return
        if self.repaid > self.most_in_flight:
            yield f"{self.repaid} are repaid, and {self.most_in_flight} were in flight"
        if self.kills != 1:
            yield f"the consumer was killed {self.kills} times"

    def __str__(self) -> str:
        return (
            f"sweep-consumer: {self.schedules:,} schedules, {self.kills:,} kills, {self.raised:,} raised, "
            f"{self.tasks:,} tasks, {self.lost} lost, {self.dead} dead because of it, {self.untold} untold, "
            f"{self.repaid:,} repaid (at most {self.most_in_flight} in flight at a kill), {self.again:,} billed again "
            f"and {self.unaccounted} of them not counted, {self.seconds:.1f} s, {len(self.failures):,} failures"
        )


def chosen(many: int, seed: int) -> list[str]:
    """The names of so many schedules: each single kill, each single call that raises, and the rest drawn from the seed.
    Fewer than the single ones: some of these, from all over the day."""
    with grounds() as home, Ground(home) as ground:
        quiet = Play(CONSUMER, ground).run()
    if quiet.faults:
        raise AssertionError(f"without a kill: {quiet.faults[0]}")
    singles = [each.name for each in (*consumers(len(quiet.calls)), *consumers_raised(quiet.calls))]
    if many < len(singles):
        return [singles[len(singles) * place // many] for place in range(many)]
    return [*singles, *(f"consumers/{seed}/{number}" for number in range(many - len(singles)))]


def consumer_sweep(names: Sequence[str], processes: int, progress: Progress = lambda done, of: None) -> Kills:
    """Plays them all, with all rules."""
    sums = Kills()
    campaign(played, names, sums, processes, progress)
    return sums


def kills(rule: Removal, *, every: int = 1) -> Kills:
    """Each single kill, or one in ``every`` so many, without one rule."""
    began = time.monotonic()
    sums = Kills()
    with grounds() as home, Ground(home) as ground:
        calls = Play(CONSUMER, ground).run().calls
        for schedule in [*consumers(len(calls))][::every]:
            with rule.without(ground.engine):
                play = Play(schedule, ground, system_of=rule.system_of)
                sums.add(play, play.run())
    sums.seconds = time.monotonic() - began
    return sums


def played(home: Path, names: Sequence[str]) -> Kills:
    sums = Kills()
    for name in names:
        play = Play(named(name), ground_of(home, os.getpid()))
        sums.add(play, play.run())
    return sums


def _counted(play: Play, outcome: Outcome) -> Kills:
    rows = list(play.engine.tasks.scan())
    hopeless = {name for name, _, mark in play.schedule.called if mark == DIES_ANYWAY}
    billed = Counter(line.task for line in play.provider.billed)
    again = {row.key: max(0, billed[_digest(row.tenant, row.task_id)] - 1 - questions(row)) for row in rows}
    ended = [row.task_id for row in rows if row.state in SETTLED]
    told = {orjson.loads(reply.body)["task_id"] for reply in play.replies.replies}
    return Kills(
        schedules=1,
        kills=outcome.crashes,
        raised=outcome.raised,
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
