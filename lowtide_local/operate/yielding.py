"""Who makes room for CRITICAL just now: the same look that consumers and the assembler take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lowtide.core.preemption import YIELDING, must_yield
from lowtide.core.tiers import Tier
from lowtide.ports import System


@dataclass(frozen=True, slots=True)
class Yielding:
    """``waiting`` messages of CRITICAL, the oldest for ``oldest_s``. ``tiers`` begin no calls; no batch is submitted to
    ``providers`` but for a deadline."""

    waiting: int
    oldest_s: float
    tiers: tuple[Tier, ...]
    providers: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        return {
            "critical_waiting": self.waiting,
            "critical_oldest_s": round(self.oldest_s),
            "tiers": [tier.value for tier in self.tiers],
            "providers": list(self.providers),
        }


def yielding(system: System) -> Yielding | None:
    """None where nobody does."""
    critical, routes = system.levels.look([Tier.CRITICAL])[Tier.CRITICAL], system.routes
    tiers = tuple(tier for tier in Tier if tier in YIELDING and must_yield(tier, critical, routes.preemption))
    if not tiers:
        return None
    sharing = sorted(name for name, spec in routes.providers.items() if spec.batch and spec.batch_shares_limits)
    calling = tuple(tier for tier in tiers if tier is not Tier.LOW)
    return Yielding(critical.waiting, critical.oldest_s, calling, tuple(sharing))
