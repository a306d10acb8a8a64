"""How long things have taken, by name and size, and what that says of one that is under way or yet to begin.

Nothing here knows what took so long: a batch of one model, or a call on one lane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from .model import Stored

KEPT = 200
"""Samples that a history remembers: some days' worth of batches, so that it follows the provider's seasons."""

ENOUGH = 20
"""Samples from which a history speaks for itself; below that, the prior stands beside it."""

_NINETY = 0.9


class Sample(Stored):
    """One that ended: ``name`` tells it from others, ``size`` is in whatever unit its history counts. One that was cut
    short took at least so long."""

    name: str
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before anything was seen: half end within ``median_s``, nine in ten within ``p90_s``."""

    median_s: float
    p90_s: float

    @property
    def samples(self) -> Sequence[float]:
        """Log-normal: many short ones, and a tail that reaches far beyond the ninetieth."""
        spread = math.log(self.p90_s / self.median_s) / NormalDist().inv_cdf(_NINETY)
        logs = NormalDist(math.log(self.median_s), spread)
        return [math.exp(logs.inv_cdf((rank + 0.5) / ENOUGH)) for rank in range(ENOUGH)]


class History(Stored):
    """The last samples of one kind, oldest first."""

    samples: tuple[Sample, ...] = ()

    def noted(self, sample: Sample) -> History:
        """With ``sample``, once however often it is noted."""
        others = tuple(each for each in self.samples if each.name != sample.name)
        return History(samples=(*others, sample)[-KEPT:])

    def eta(self, size: int, prior: Prior) -> Eta:
        """From the samples of this size, of every size where those are few, and of the prior where all are few."""
        alike = [each.seconds for each in self.samples if _class(each.size) == _class(size)]
        known = alike if len(alike) >= ENOUGH else [each.seconds for each in self.samples]
        return Eta(tuple(sorted(known if len(known) >= ENOUGH else [*known, *prior.samples])))


@dataclass(frozen=True, slots=True)
class Eta:
    """Durations in seconds, ascending, of ones like the one in question; at least one."""

    samples: Sequence[float]

    def within_s(self, percent: int) -> float:
        """So many of a hundred end within it (nearest rank)."""
        return _percentile(self.samples, percent)

    def remaining_s(self, elapsed_s: float, percent: int) -> float:
        """What one that has run for ``elapsed_s`` takes yet, judged by those that ran longer; infinite where none ever
        did."""
        longer = [seconds for seconds in self.samples if seconds > elapsed_s]
        return _percentile(longer, percent) - elapsed_s if longer else math.inf


def _percentile(ascending: Sequence[float], percent: int) -> float:
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]


def _class(size: int) -> int:
    """Tens, hundreds, thousands, … share a class."""
    return len(str(size))
