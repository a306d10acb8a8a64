"""Thousands of plays on every core, and what they came to in one line, also where they were cut off."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Protocol, Self, TypeVar

from tests.sweep.ground import Ground, grounds
from tests.sweep.play import Outcome, Play
from tests.sweep.schedules import LATE, QUIET, named, raised_singles, singles

CHUNK = 10
"""Schedules that a process takes at a time."""
RAISED_EVERY = 23
"""One in so many of the single calls that raise is played: the drawn schedules have them by the thousand."""

Progress = Callable[[int, int], None]


class CutOff(BaseException):
    """The command was told to end. ``number``: the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def heeding_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise CutOff in here."""

    def cut_off(number: int, _: FrameType | None) -> None:
        raise CutOff(number)

    before = {number: signal.signal(number, cut_off) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Sums(Protocol):
    """What plays came to. ``failures``: (schedule, fault) of each that broke a promise, in no order."""

    schedules: int
    seconds: float
    failures: list[tuple[str, str]]

    def include(self, other: Self) -> None: ...


S = TypeVar("S", bound=Sums)


@dataclass
class Figures:
    """Sums over plays."""

    schedules: int = 0
    crashes: int = 0
    raised: int = 0
    calls: int = 0
    interleavings: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, outcome: Outcome) -> None:
        self.schedules += 1
        self.crashes += outcome.crashes
        self.raised += outcome.raised
        self.calls += len(outcome.calls)
        self.interleavings += outcome.switches
        if outcome.faults:
            self.failures.append((name, outcome.faults[0]))

    def include(self, other: Figures) -> None:
        self.schedules += other.schedules
        self.crashes += other.crashes
        self.raised += other.raised
        self.calls += other.calls
        self.interleavings += other.interleavings
        self.failures += other.failures

    def __str__(self) -> str:
        return (
            f"sweep: {self.schedules:,} schedules, {self.crashes:,} crashes, {self.raised:,} raised, "
            f"{self.calls:,} calls, {self.interleavings:,} interleavings, {self.seconds:.1f} s, "
            f"{len(self.failures):,} failures"
        )


def chosen(many: int, seed: int) -> list[str]:
    """The names of so many schedules: two days with each single crash and with calls that raise; the rest is drawn from
    the seed."""
    days: list[str] = []
    with grounds() as home, Ground(home) as ground:
        for day in (QUIET, LATE):
            calls = Play(day, ground).run().calls
            days += [day.name, *(schedule.name for schedule in singles(calls, day))]
            days += [schedule.name for schedule in raised_singles(calls, day)][::RAISED_EVERY]
    return [*days, *(f"random/{seed}/{number}" for number in range(max(0, many - len(days))))][:many]


def sweep(names: Sequence[str], processes: int, progress: Progress = lambda done, of: None) -> Figures:
    """Plays them all. The same names come to the same figures but for the seconds, on however many processes."""
    figures = Figures()
    campaign(played, names, figures, processes, progress)
    return figures


def campaign(
    play: Callable[[Path, Sequence[str]], S],
    names: Sequence[str],
    sums: S,
    processes: int,
    progress: Progress = lambda done, of: None,
) -> None:
    """Adds up what these come to, in the order of the names: cut off, ``sums`` are those of the first so many."""
    began = time.monotonic()
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    try:
        with grounds() as home:
            for part in _parts(partial(play, home), chunks, processes):
                sums.include(part)
                progress(sums.schedules, len(names))
    finally:
        sums.seconds = time.monotonic() - began


def _parts(play: Callable[[Sequence[str]], S], chunks: Sequence[Sequence[str]], processes: int) -> Iterator[S]:
    # Forked before any actor's thread is started: each process has its own.
    with multiprocessing.get_context("fork").Pool(processes, _deaf) as pool:
        try:
            yield from pool.imap(play, chunks)
        finally:
            pool.terminate()
            pool.join()


def _deaf() -> None:
    """Ctrl-C reaches every process of a terminal; the first of them ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@cache
def ground_of(home: Path, process: int) -> Ground:
    """A process's own, for as long as it lives. Made where it is used: what goes wrong in it is told, and not tried
    again for ever, as a pool does with its initializer."""
    return Ground(home)


def played(home: Path, names: Sequence[str]) -> Figures:
    figures = Figures()
    for name in names:
        figures.add(name, Play(named(name), ground_of(home, os.getpid())).run())
    return figures
