"""Does the sweep notice that a rule is missing? The same schedules with it and without it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.sweep.ground import Ground, grounds
from tests.sweep.play import Outcome, Play, Trace
from tests.sweep.removals import REMOVALS, Removal
from tests.sweep.removals_of_raises import RAISES
from tests.sweep.schedules import Schedule, drawn

RULES = (*REMOVALS, *RAISES)
HUNTED = 300
"""Schedules for each rule: the rarest of the defects shows in one of a hundred."""
WORDS = 9
"""Of a fault that say what kind it is; the names in it differ."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """``failed`` of so many ``schedules``; ``how`` the commonest fault showed, and where first."""

    removal: Removal
    schedules: int
    failed: int
    how: str
    first: str

    @property
    def as_expected(self) -> bool:
        """Was the lack of a rule noticed, and that of a covered one not?"""
        return bool(self.failed) is (self.removal.covered is None)

    def __str__(self) -> str:
        covered = self.removal.covered
        how = self.how if self.failed else f"covered: {covered}" if covered else "**not found**"
        rule = f"{self.removal.rule} (`{self.removal.name}`)"
        return f"| {rule} | {self.schedules} | {self.failed} | {how} | {self.first} |"


def removal(name: str) -> Removal:
    """Raises ValueError, with the names that there are."""
    for each in RULES:
        if each.name == name:
            return each
    raise ValueError(f"{name!r} removes nothing: one of {', '.join(each.name for each in RULES)}")


def without(rule: Removal, schedule: Schedule, ground: Ground, trace: Trace | None = None) -> Outcome:
    """``schedule`` as the removal sharpens it, without the rule."""
    with rule.without(ground.engine):
        sharpened = rule.sharpened(schedule)
        return Play(sharpened, ground, trace=trace, system_of=rule.system_of, provider_of=rule.provider_of).run()


def hunt(rule: Removal, seed: int, many: int, ground: Ground) -> Hunt:
    faults: list[str] = []
    first = ""
    for number in range(many):
        schedule = drawn(seed, number)
        if found := without(rule, schedule, ground).faults:
            first = first or schedule.name
            faults.append(found[0])
    [(how, _)] = Counter(_kind(fault) for fault in faults).most_common(1) or [("", 0)]
    return Hunt(rule, many, len(faults), how, first)


HEAD = ("| rule removed | schedules | failed | how it showed, most often | first in |", "|---|---|---|---|---|")
"""Of the table of hunts, in Markdown."""


def hunts(seed: int, many: int, processes: int) -> Iterator[Hunt]:
    """Each rule's, in their order."""
    with grounds() as home, multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(partial(_hunted, seed=seed, many=many, home=home), [each.name for each in RULES])


def _hunted(name: str, *, seed: int, many: int, home: Path) -> Hunt:
    with Ground(home) as ground:
        found = hunt(removal(name), seed, many, ground)
    # Functions do not travel between processes, names do.
    return Hunt(
        Removal(name, found.removal.rule, covered=found.removal.covered), many, found.failed, found.how, found.first
    )


def _kind(fault: str) -> str:
    """Without what differs from play to play."""
    words = ["…" if any(letter.isdigit() for letter in word) or "{" in word else word for word in fault.split()]
    return " ".join(words[1 : WORDS + 1])
