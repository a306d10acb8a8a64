"""In hand: the messages of one invocation, kept from coming back while they are worked on, and put back one by one.

Each is put back when its own work has ended, however long a neighbour's takes. From then on it is another's: the
heartbeat, which goes the same way and one write after the other, knows it no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from lowtide.core.errors import safely_told
from lowtide.core.tiers import Tier
from lowtide.ports import Message, System

from .coalesce import Coalescer

HEARTBEAT_SHARE = 0.4
"""Of the visibility: a message in hand is extended twice before it would come back."""

Delay = tuple[Message, int]
"""A message, and for how many seconds it is hidden from now on."""


class InHand:
    """``visibility_s`` is kept up by the heartbeat; None where the queue's own outlasts the caller."""

    def __init__(self, system: System, tier: Tier, messages: Sequence[Message], visibility_s: int | None) -> None:
        self._system = system
        self._queue = system.tiers[tier]
        self._held = {message.receipt: message for message in messages}
        self._visibility_s = visibility_s
        self._defer: Coalescer[Sequence[Delay], None] = Coalescer(self._write, system.offload)

    async def put_back(self, message: Message, delay_s: int) -> None:
        """Where the queue does not take it, the message comes again when its visibility ends."""
        self._held.pop(message.receipt, None)
        try:
            await self._defer([(message, delay_s)])
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
            self._system.metrics.count("message_errors")
            self._system.metrics.log("message_not_put_back", message_id=message.id, error=safely_told(error))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Inside, the messages do not come back by themselves; a crash ends it, and they come back soon."""
        if self._visibility_s is None:
            yield
            return
        heartbeat = asyncio.create_task(self._beat(self._visibility_s))
        try:
            yield
        finally:
            heartbeat.cancel()
            with suppress(asyncio.CancelledError):
                await heartbeat

    async def _beat(self, visibility_s: int) -> None:
        while True:
            await self._system.clock.sleep(visibility_s * HEARTBEAT_SHARE)
            try:
                await self._defer([(message, visibility_s) for message in self._held.values()])
            except Exception as error:  # noqa: BLE001 - a beat that is missed is made up for by the next one
                self._system.metrics.log("heartbeat_missed", messages=len(self._held), error=safely_told(error))

    def _write(self, asked: Sequence[Sequence[Delay]]) -> Sequence[None]:
        """What was asked for last holds: a message is not put back and extended in one write."""
        latest = {message.receipt: (message, delay_s) for delays in asked for message, delay_s in delays}
        if latest:
            self._queue.defer(list(latest.values()))
        return [None] * len(asked)
