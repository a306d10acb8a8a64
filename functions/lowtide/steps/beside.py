"""Beside: while an invocation's calls are under way, it answers what else stands on its queue.

A function that waits for a slow model would otherwise hold its place until that model has answered. Where every
function waits so, another model's tasks wait for nothing but their receive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

from lowtide.core.errors import safely_told
from lowtide.core.tiers import Tier
from lowtide.ports import Message, System

from .answer import Report, answer
from .call import WHOLE_CALL_SHARE
from .gate import Gate
from .lookout import Lookout, on_the_lookout
from .slots import Slots

AT_ONCE = 10
"""Messages of one receive, the most that SQS gives."""

IN_HAND_FOLD = 5
"""Messages in hand beside those of the invocation, at most, as a multiple of the tier's concurrency. Slots hold, and
their lines keep, up to 3.25 times as many of slow models; so there is always room to receive others."""

LEAST_IN_HAND = 4 * AT_ONCE
"""The same where the concurrency is small."""

PAUSE_S = 2.0
"""Between two receives of a queue that had nothing; a receive costs money."""

FULL_PAUSE_S = 0.25
"""Between two looks whether there is room in hand again."""


async def answer_and_more(
    system: System, tier: Tier, messages: Sequence[Message], *, slots: Slots, stop_at: datetime, settle_s: float
) -> Report:
    """Answer ``messages``, the invocation's own, and meanwhile others, which are deleted here. Report on its own.

    Every call has ended by ``stop_at``, and the invocation ``settle_s`` seconds later.
    """
    gate, began_at = Gate(system), system.clock.now()
    own = asyncio.create_task(answer(system, tier, messages, slots=slots, gate=gate, stop_at=stop_at))
    others = _Others(system, tier, own, slots, gate, began_at, stop_at, settle_s)
    async with on_the_lookout(system, tier, slots) as lookout:
        await others.answer(lookout)
    return await own


class _Others:
    def __init__(
        self,
        system: System,
        tier: Tier,
        own: asyncio.Task[Report],
        slots: Slots,
        gate: Gate,
        began_at: datetime,
        stop_at: datetime,
        settle_s: float,
    ) -> None:
        self._system = system
        self._tier = tier
        self._queue = system.tiers[tier]
        self._own = own
        self._slots = slots
        self._gate = gate
        self._began_at = began_at
        self._stop_at = stop_at
        self._hidden_until = stop_at + timedelta(seconds=settle_s)
        self._in_hand = 0
        self._halted = False

    async def answer(self, lookout: Lookout) -> None:
        """Until the invocation's own messages have ended, or a call would no longer have the time that it may take."""
        spec = self._system.routes.tiers[self._tier]
        last_at = self._stop_at - timedelta(seconds=spec.call_timeout_s * WHOLE_CALL_SHARE)
        most = max(LEAST_IN_HAND, IN_HAND_FOLD * spec.concurrency)
        async with asyncio.TaskGroup() as group:
            while not self._halted and self._system.clock.now() < last_at and not await self._own_ended(0):
                if lookout.must_yield:
                    return
                if self._in_hand > most - AT_ONCE:
                    await self._own_ended(FULL_PAUSE_S)
                elif received := await self._receive():
                    self._in_hand += len(received)
                    group.create_task(self._answer(received))
                else:
                    await self._own_ended(PAUSE_S)

    async def _own_ended(self, within_s: float) -> bool:
        done, _ = await asyncio.wait({self._own}, timeout=within_s)
        return bool(done)

    async def _receive(self) -> list[Message]:
        """Should the function die, they come again when it would have ended. A queue that fails has nothing for now."""
        left_s = (self._hidden_until - self._system.clock.now()).total_seconds()
        try:
            return await self._system.offload(lambda: self._queue.receive(AT_ONCE, visibility_s=ceil(left_s)))
        except Exception as error:  # noqa: BLE001 - the invocation's own messages go on
            self._system.metrics.log("nothing_more_received", tier=self._tier.value, error=safely_told(error))
            return []

    async def _answer(self, messages: Sequence[Message]) -> None:
        """What goes wrong here goes wrong for these messages: they come again."""
        try:
            report = await answer(
                self._system,
                self._tier,
                messages,
                slots=self._slots,
                gate=self._gate,
                began_at=self._began_at,
                stop_at=self._stop_at,
                ended=self._one_ended,
            )
            self._halted = self._halted or report.halted is not None
            await self._system.offload(lambda: self._queue.delete(report.done))
        except Exception as error:  # noqa: BLE001 - whatever it is, the invocation's own messages go on
            self._system.metrics.count("message_errors")
            self._system.metrics.log("more_not_answered", messages=len(messages), error=safely_told(error))

    def _one_ended(self) -> None:
        self._in_hand -= 1
