"""Lookout: while work that can wait is in hand, is CRITICAL kept waiting?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from lowtide.core.preemption import LOOK_EVERY_S, YIELDING, must_yield
from lowtide.core.tiers import Tier
from lowtide.ports import System

from .slots import Slots


class Lookout:
    """``must_yield``: nothing new begins now. What waits for a slot is sent away when that is seen."""

    def __init__(self, system: System, tier: Tier, slots: Slots) -> None:
        self._system = system
        self._tier = tier
        self._slots = slots
        self.must_yield = False

    async def look(self) -> None:
        """A store that does not answer changes nothing: work goes on as it did."""
        system = self._system
        with suppress(Exception):
            levels = await system.offload(lambda: system.levels.look([Tier.CRITICAL]))
            yields = must_yield(self._tier, levels[Tier.CRITICAL], system.routes.preemption)
            if yields and not self.must_yield:
                system.metrics.log("yielding", tier=self._tier.value, critical_s=levels[Tier.CRITICAL].oldest_s)
            self.must_yield = yields
        if self.must_yield:
            self._slots.send_away()


@asynccontextmanager
async def on_the_lookout(system: System, tier: Tier, slots: Slots) -> AsyncIterator[Lookout]:
    """Looks at once and every ``LOOK_EVERY_S`` while inside."""
    lookout = Lookout(system, tier, slots)
    if tier not in YIELDING or not system.routes.preemption.enabled:
        yield lookout
        return
    await lookout.look()
    looking = asyncio.create_task(_look(system, lookout))
    try:
        yield lookout
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _look(system: System, lookout: Lookout) -> None:
    while True:
        await system.clock.sleep(LOOK_EVERY_S)
        await lookout.look()
