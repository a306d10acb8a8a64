"""Admission: may more of a tier's work be let in, or does it wait upstream, or is it shed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .bounds import Count, Seconds
from .model import Stored, Utc, Value
from .tiers import Tier
from .wording import span

SHED_CODE = "shed"

FIRST_WAIT_S = 10
"""A message that has to wait comes again after this, and each time later …"""
LONGEST_WAIT_S = 900
"""… up to a quarter of an hour: a thousand receives, after which SQS gives a message up, then last over ten days."""


class Overflow(StrEnum):
    WAIT = "wait"
    """Messages stay on the intake queue, where a backlog can be seen and nothing is lost."""
    SHED = "shed"
    """Tasks are refused with a dead letter, for a caller that would rather know at once."""


class Cap(Value):
    """``depth`` messages on a tier's queue, ``age_s`` that the oldest of them has waited: past either, ``overflow``."""

    depth: Count
    age_s: Seconds
    overflow: Overflow = Overflow.WAIT


DEFAULT_CAP = Cap(depth=100_000, age_s=4 * 86_400)
"""Below the 120,000 messages that SQS lets be in flight, and long before a queue's ten days are over."""


@dataclass(frozen=True, slots=True)
class Level:
    """How high a tier's queue stands: messages that wait to be taken up, and for how long the oldest has, as far as is
    known."""

    waiting: int = 0
    oldest_s: float = 0.0


class Mark(Stored):
    """Whoever looked at ``at`` knew of nothing older than ``oldest_s`` that still waited."""

    at: Utc
    oldest_s: float

    def oldest_by(self, now: datetime, waiting: int) -> float:
        """In seconds; what waits now may have waited since. Nothing waits: nothing is old."""
        return self.oldest_s + max(0.0, (now - self.at).total_seconds()) if waiting else 0.0


def over(tier: Tier, cap: Cap, level: Level) -> str | None:
    """What the tier has too much of, in words; None where there is room."""
    if level.waiting >= cap.depth:
        return f"{tier} holds {level.waiting} messages, and its cap is {cap.depth}"
    if level.oldest_s > cap.age_s:
        return f"the oldest message of {tier} has waited {span(level.oldest_s)}, and its cap is {span(cap.age_s)}"
    return None


def wait_s(receives: int) -> int:
    """How long a message waits that has been received so many times (from 1)."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S << min(receives - 1, 20))
