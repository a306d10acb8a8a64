"""How high the tiers' queues stand: the embedded engine's own queues tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lowtide.core.admission import Level
from lowtide.core.tiers import Tier
from lowtide.ports import Clock

from .queue import SqliteQueue


class SqliteLevels:
    """A ports.Levels. Nobody has to mark what can be read."""

    def __init__(self, queues: Mapping[Tier, SqliteQueue], clock: Clock) -> None:
        self._queues = queues
        self._clock = clock

    def look(self, tiers: Sequence[Tier]) -> Mapping[Tier, Level]:
        return {tier: self._level(self._queues[tier]) for tier in tiers}

    def mark(self, tier: Tier, oldest_s: float) -> None:
        pass

    def _level(self, queue: SqliteQueue) -> Level:
        waiting, since = queue.waiting()
        return Level(waiting, 0.0 if since is None else (self._clock.now() - since).total_seconds())
