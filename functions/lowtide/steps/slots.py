"""Slots: so many calls in flight, and whose turn it is for the next.

Tenants take turns, so that what one of them has in hand by the hundred does not keep another's few waiting. Whoever
still waits can be sent away at once, when something more urgent needs the room.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """For one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()
        """By tenant; the next turn is the first tenant's."""

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[bool]:
        """Waits for a slot and holds it inside. False: sent away, and there is none to hold."""
        granted = await self._take(tenant)
        try:
            yield granted
        finally:
            if granted:
                self._give()

    def send_away(self) -> int:
        """Everybody who waits now; returns how many that were."""
        sent = 0
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result(False)
                    sent += 1
        self._waiting.clear()
        return sent

    async def _take(self, tenant: str) -> bool:
        if self._free > 0:
            self._free -= 1
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(future)
        try:
            return await future
        except asyncio.CancelledError:
            # Granted and cancelled at the same moment: somebody else must have it.
            if future.done() and not future.cancelled() and future.result():
                self._give()
            raise

    def _give(self) -> None:
        while self._waiting:
            tenant, futures = self._waiting.popitem(last=False)
            future = futures.popleft()
            if futures:
                self._waiting[tenant] = futures
            if not future.done():
                future.set_result(True)
                return
        self._free += 1
