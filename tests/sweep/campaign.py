"""Thousands of plays on every core, and what they came to in one line."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from tests.sweep.ground import Ground, grounds
from tests.sweep.play import Outcome, Play
from tests.sweep.schedules import LATE, QUIET, named, singles

CHUNK = 20
"""Schedules that a process takes at a time."""

Progress = Callable[[int, int], None]


@dataclass
class Figures:
    """Sums over plays. ``failures``: (schedule, fault) of each that broke a promise, in no order."""

    schedules: int = 0
    crashes: int = 0
    calls: int = 0
    interleavings: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, outcome: Outcome) -> None:
        self.schedules += 1
        self.crashes += outcome.crashes
        self.calls += len(outcome.calls)
        self.interleavings += outcome.switches
        if outcome.faults:
            self.failures.append((name, outcome.faults[0]))

    def include(self, other: Figures) -> None:
        self.schedules += other.schedules
        self.crashes += other.crashes
        self.calls += other.calls
        self.interleavings += other.interleavings
        self.failures += other.failures

    def __str__(self) -> str:
        return (
            f"sweep: {self.schedules:,} schedules, {self.crashes:,} crashes, {self.calls:,} calls, "
            f"{self.interleavings:,} interleavings, {self.seconds:.1f} s, {len(self.failures):,} failures"
        )


def chosen(many: int, seed: int) -> list[str]:
    """The names of so many schedules: each single crash of two days, and the rest drawn from the seed."""
    days: list[str] = []
    with grounds() as home, Ground(home) as ground:
        for day in (QUIET, LATE):
            calls = Play(day, ground).run().calls
            days += [day.name, *(schedule.name for schedule in singles(calls, day))]
    return [*days, *(f"random/{seed}/{number}" for number in range(max(0, many - len(days))))][:many]


def sweep(names: Sequence[str], processes: int, progress: Progress = lambda done, of: None) -> Figures:
    """Plays them all. The same names come to the same figures but for the seconds, on however many processes."""
    began = time.monotonic()
    figures = Figures()
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    with grounds() as home:
        for part in _parts(chunks, processes, home):
            figures.include(part)
            progress(figures.schedules, len(names))
    figures.seconds = time.monotonic() - began
    return figures


def _parts(chunks: Sequence[Sequence[str]], processes: int, home: Path) -> Iterator[Figures]:
    # Forked before any actor's thread is started: each process has its own.
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(partial(_played, home), chunks)


@cache
def _ground(home: Path, process: int) -> Ground:
    """A process's own, for as long as it lives. Made where it is used: what goes wrong in it is told, and not tried
    again for ever, as a pool does with its initializer."""
    return Ground(home)


def _played(home: Path, names: Sequence[str]) -> Figures:
    figures = Figures()
    for name in names:
        figures.add(name, Play(named(name), _ground(home, os.getpid())).run())
    return figures
