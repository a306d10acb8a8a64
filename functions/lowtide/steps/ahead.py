"""Ahead: a task that an off-peak window makes cheaper goes back to its queue until then, unclaimed.

It comes again when the window has opened, or after the twelve hours for which SQS hides a message at most. Nothing is
written meanwhile: whether it still has the time is judged whenever it comes.
"""

from __future__ import annotations

from lowtide.core.lanes import Lane
from lowtide.core.later import MOST_WAITING
from lowtide.core.offpeak import open_now
from lowtide.core.task import AcceptedTask
from lowtide.core.task_rows import TaskRow, TaskState, strikes_of
from lowtide.core.tiers import Tier
from lowtide.ports import System

from .gate import Gate


def in_cheap_hours(system: System) -> bool:
    """Is a window for calls open at some provider."""
    now, windows = system.clock.now(), [spec.off_peak for spec in system.routes.providers.values()]
    return any(open_now(each, lane, now) is not None for each in windows for lane in (Lane.FLEX, Lane.DEFAULT))


class CheapHoursAhead:
    """Looks at the queue only where somebody has reason to wait."""

    def __init__(self, system: System, gate: Gate) -> None:
        self._system = system
        self._gate = gate

    async def away_s(self, task: AcceptedTask, seen: TaskRow | None, beside: int = 1) -> float | None:
        """How long the task stays away, in seconds; None where it is called now. So is one whose last call died, and
        each where the queue cannot be seen. ``beside``: tasks in its message, as the others are taken to hold."""
        if seen is not None and seen.state is not TaskState.QUEUED:
            return None
        strikes = strikes_of(seen)
        if self._gate.waits_until(task, strikes) is None:
            return None
        in_line = await self._gate.backlog.look(Tier.NORMAL, unseen=MOST_WAITING + 1)
        until = self._gate.waits_until(task, strikes, in_line, beside)
        if until is None:
            return None
        self._system.metrics.count("tasks_waiting_off_peak", tier=task.tier.value)
        return (until - self._system.clock.now()).total_seconds()
