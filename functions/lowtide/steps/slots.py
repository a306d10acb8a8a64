"""Slots: the calls that one process may have in flight, and which task begins the next one.

Models take turns, and so do the tenants of a model. No model holds every slot, so a model whose calls take minutes does
not keep another model's first call waiting. A line that stands still keeps only what it can serve soon. The other tasks
return to their queue, so that the process can receive what stands behind them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lowtide.core.task import AcceptedTask

from .slot_lines import PATIENCE_S, ModelLine, Turn, Waiter

RESERVE_SHARE = 1 / 4
"""Slots beyond ``count``, as a share of it; at least one. A model alone has ``count`` slots, and never these."""

OF_THE_FREE = 4
"""A model takes another slot only while it holds fewer than so many times the free ones, so that several slow models
together leave some free as well. Source of the rule: Choudhury and Hahne, "Dynamic queue length thresholds for
shared-memory packet switches", IEEE/ACM Transactions on Networking, 1998."""

LEAST_KEPT = 10
"""Tasks that all lines together keep at least when they stand still: a message may hold as many."""

GRANTED = Turn(granted=True)
YIELDED = Turn(granted=False)


class Slots:
    """The slots of one event loop. One model may hold ``count`` of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = self._all = count + max(1, int(count * RESERVE_SHARE))
        self._lines: OrderedDict[str, ModelLine] = OrderedDict()
        """The model with the next turn comes first."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held(self) -> int:
        return self._all - self._free

    @asynccontextmanager
    async def turn(self, task: AcceptedTask) -> AsyncIterator[Turn]:
        """Wait for a slot, and hold it inside where it is granted."""
        turn = await self._take(task)
        try:
            yield turn
        finally:
            if turn.granted:
                self._give(task.model)

    def send_away(self) -> int:
        """Send away every caller that waits now. Return how many there were."""
        waiting = [(line, waiter) for line in self._lines.values() for waiter in line.waiters]
        for line, waiter in waiting:
            _answer(line, waiter, YIELDED)
        return len(waiting)

    async def _take(self, task: AcceptedTask) -> Turn:
        loop = asyncio.get_running_loop()
        line = self._lines.setdefault(task.model, ModelLine(loop.time()))
        line.came(task.key)
        if self._may_take(line):
            self._hold(line)
            return GRANTED
        waiter = Waiter(task, loop.time(), loop.create_future())
        line.add(waiter)
        self._thin_out()
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter in line:
                line.remove(waiter)
            elif not waiter.turn.cancelled() and waiter.turn.result().granted:
                # Granted and cancelled at the same moment: another task must have the slot.
                self._give(task.model)
            raise

    def _may_take(self, line: ModelLine) -> bool:
        return line.held < min(self._count, OF_THE_FREE * self._free)

    def _hold(self, line: ModelLine) -> None:
        self._free -= 1
        line.took()

    def _give(self, model: str) -> None:
        now = asyncio.get_running_loop().time()
        self._free += 1
        self._lines[model].gave(now)
        while (chosen := self._next_line()) is not None:
            waiter = chosen.next_up()
            if not waiter.turn.done():  # cancelled, it leaves by itself
                self._hold(chosen)
            _answer(chosen, waiter, GRANTED)
        for idle in [name for name, line in self._lines.items() if line.idle(now)]:
            del self._lines[idle]

    def _next_line(self) -> ModelLine | None:
        """The line of the model with the next turn, which is then over."""
        for model, line in self._lines.items():
            if line.waiting and self._may_take(line):
                self._lines.move_to_end(model)
                return line
        return None

    def _thin_out(self) -> None:
        """Send away what lines that stand still do not keep. Look again as long as one may come to keep less."""
        loop = asyncio.get_running_loop()
        now, lines = loop.time(), [line for line in self._lines.values() if line.waiting]
        share = max(LEAST_KEPT, self._count) / max(1, len(lines))
        for line in lines:
            for waiter in line.surplus(now, share):
                _answer(line, waiter, Turn(granted=False, away_s=line.away_s(waiter.task.key, now)))
        if self._timer is None and any(line.waiting > share for line in lines):
            self._timer = loop.call_later(PATIENCE_S, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._thin_out()


def _answer(line: ModelLine, waiter: Waiter, turn: Turn) -> None:
    line.remove(waiter)
    if not waiter.turn.done():
        waiter.turn.set_result(turn)
