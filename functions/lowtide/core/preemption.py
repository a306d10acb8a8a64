"""Preemption: when work that can wait makes room for CRITICAL tasks, and for how long."""

from __future__ import annotations

from .admission import Level
from .bounds import Seconds
from .model import Value
from .outcomes import jitter
from .tiers import Tier

LOOK_EVERY_S = 5.0
"""Between two looks at CRITICAL's queue."""

YIELDING = frozenset({Tier.HIGH, Tier.NORMAL, Tier.LOW})
"""LOW where its batches share a limit with calls (``ProviderSpec.batch_shares_limits``)."""

FIRST_REST_S = 5.0
LONGEST_REST_S = 60.0
"""What is handed back comes again after the first, twice as late each time, up to the longest: SQS gives a message up
after a thousand receives, and at a minute each these last for sixteen hours of nothing but CRITICAL."""


class Preemption(Value):
    """Once the oldest CRITICAL task has waited ``after_s`` seconds, nothing of the other tiers begins."""

    enabled: bool = True
    after_s: Seconds = 5.0


def must_yield(tier: Tier, critical: Level, preemption: Preemption) -> bool:
    """Is CRITICAL kept waiting, so that ``tier`` begins nothing now?"""
    if tier not in YIELDING or not preemption.enabled:
        return False
    return critical.waiting > 0 and critical.oldest_s >= preemption.after_s


def rest_s(receives: int, seed: str) -> float:
    """How long a message rests that was handed back at its receive of that number (from 1). ``seed`` spreads them."""
    return min(LONGEST_REST_S, FIRST_REST_S * (1 << min(receives - 1, 10))) * (1 + jitter(seed) / 2)
