"""What is remembered of one model's calls on one lane: how long the last ones took, and how often it was refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from .history import Eta
from .model import Stored, Utc

KEPT = 20
"""Calls that are remembered, the newest: about 150 bytes of a row that all functions read and write."""
EACH_TIME = 5
"""Of calls told together, so many are remembered, so that one busy second is not all that is known."""
ENOUGH = 10
"""Calls from which a lane's past speaks; below that, a call is expected to take all the time that it may."""
FRESH = timedelta(minutes=1)
"""News is told at the end of an invocation where the last is older, and otherwise with whatever is written next."""
LATELY = timedelta(hours=1)
"""Without news for so long, what is remembered says nothing about now."""
REFUSAL_WEIGHT = 0.2
"""Of one try in ``refused``: about the last ten count, and eight refusals in a row are four fifths."""


class LanePast(Stored):
    """``seconds`` from a call's moment to its end, oldest first; one that was cut off took at least so long.
    ``refused``: the share of the tries that found no capacity, each of which fades with every later one."""

    seconds: tuple[float, ...] = ()
    refused: float = 0.0
    heard_at: Utc | None = None

    def took(self, seconds: Sequence[float], now: datetime) -> LanePast:
        """Calls ended that were not refused."""
        fresh = self._fresh(now)
        step = -(-len(seconds) // EACH_TIME)
        some = tuple(round(each, 1) for each in seconds[::step])
        share = fresh.refused * (1 - REFUSAL_WEIGHT) ** len(seconds)
        return LanePast(seconds=(*fresh.seconds, *some)[-KEPT:], refused=round(share, 3), heard_at=now)

    def found_none(self, now: datetime) -> LanePast:
        """A call was refused for want of capacity."""
        fresh = self._fresh(now)
        share = fresh.refused + (1 - fresh.refused) * REFUSAL_WEIGHT
        return fresh.model_copy(update={"refused": round(share, 3), "heard_at": now})

    def within_s(self, percent: int, now: datetime) -> float | None:
        """So many of a hundred calls end within it; None where too little is known."""
        seconds = self._fresh(now).seconds
        return Eta(tuple(sorted(seconds))).within_s(percent) if len(seconds) >= ENOUGH else None

    def wants(self, now: datetime) -> bool:
        """Is what a call took worth a write of its own?"""
        return len(self.seconds) < ENOUGH or self.heard_at is None or now - self.heard_at > FRESH

    def refused_share(self, now: datetime) -> float:
        return self._fresh(now).refused

    def _fresh(self, now: datetime) -> LanePast:
        return self if self.heard_at is not None and now - self.heard_at <= LATELY else LanePast()
