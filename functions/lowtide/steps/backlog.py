"""Backlog: how much stands on a real-time queue, whether visible or hidden, as one process last saw it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from lowtide.core.errors import safely_told
from lowtide.core.tiers import Tier
from lowtide.ports import System

GOOD_FOR = timedelta(seconds=5)
"""A look is a call to the queue."""


class Backlog:
    """Of one process or invocation."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._seen: dict[Tier, tuple[datetime, int | None]] = {}
        self._looking = asyncio.Lock()

    async def look(self, tier: Tier, *, unseen: int = 0) -> int:
        """Messages on the queue that carries ``tier`` in real time. LOW, where it is called, goes with NORMAL.

        A queue that cannot be looked at stops nobody: it stands as it last did, or at ``unseen``.
        """
        tier = Tier.NORMAL if tier is Tier.LOW else tier
        async with self._looking:
            seen, now = self._seen.get(tier), self._system.clock.now()
            if seen is not None and now - seen[0] < GOOD_FOR:
                return unseen if seen[1] is None else seen[1]
            messages = None if seen is None else seen[1]
            try:
                depth = await self._system.offload(self._system.tiers[tier].depth)
                messages = depth.visible + depth.in_flight + depth.delayed
            except Exception as error:  # noqa: BLE001 - whatever it is, it is not worth a call
                self._system.metrics.log("depth_unseen", tier=tier.value, error=safely_told(error))
            self._seen[tier] = (now, messages)
            return unseen if messages is None else messages
