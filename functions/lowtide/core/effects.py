"""Effects: what one change of a task's row adds to the metrics.

Every figure is the difference between the row before and after a write that took effect. A write that is repeated
changes nothing, and so counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .endings import Ending
from .records import Status
from .task_rows import SETTLED, TaskRow, TaskState
from .tasks import Cancel, ClaimCall, ClaimPart, Decision, Free, Settle, TaskEvent, Verdict


@dataclass(frozen=True, slots=True)
class Count:
    """``status`` is a dimension beside ``tier``, where there is one. ``tier`` is None for a metric without
    dimensions."""

    name: str
    value: float = 1
    tier: str | None = None
    status: str | None = None

    @property
    def dimensions(self) -> dict[str, str]:
        named = {"tier": self.tier, "status": self.status}
        return {name: value for name, value in named.items() if value is not None}


LATENCY = "latency_s"
"""The one metric whose values are kept apart, for its percentiles."""


def effects(event: TaskEvent, decision: Decision) -> Iterator[Count]:
    """What the decision on ``event`` adds. Nothing where it changed nothing."""
    before, row = decision.before, decision.row
    if not decision.changed or row is None or row.state is TaskState.TOMBSTONE:
        return
    tier = row.tier.value
    if before is None or before.state is TaskState.TOMBSTONE:
        yield Count("tasks_accepted", tier=tier)
    attempts = row.attempt - (0 if before is None else before.attempt)
    if attempts:
        # A claim that only chose a LOW task's model gives its attempt back. A count never falls, so that is another.
        yield Count("attempts" if attempts > 0 else "attempts_returned", abs(attempts), tier=tier)
    repaid = row.repaid - (0 if before is None else before.repaid)
    if repaid:
        yield Count("repaid", repaid)
    if isinstance(event, Free) and row.state is TaskState.QUEUED:
        yield Count("tasks_rescued")
    if row.state in SETTLED and decision.verdict is not Verdict.IN_VAIN:
        yield from _ended(row, _ending(event, row))


def _ended(row: TaskRow, ending: Ending) -> Iterator[Count]:
    tier = row.tier.value
    yield Count("tasks_settled", tier=tier, status=row.state.value)
    if row.state.value == Status.DEAD.value:
        yield Count("dead_letters")
    yield Count("cost_usd", float(ending.cost_usd), tier=tier)
    yield Count("list_cost_usd", float(ending.list_cost_usd), tier=tier)
    if ending.premium_usd is not None:
        yield Count("rescue_premium_usd", float(ending.premium_usd))
    if ending.latency_s is not None:
        yield Count(LATENCY, ending.latency_s, tier=tier)
        yield Count("tasks_late", int(ending.late), tier=tier)


def _ending(event: TaskEvent, row: TaskRow) -> Ending:
    """The event's, or, of a task that was cancelled, what its record says: that is always in the row."""
    match event:
        case Settle(ending=Ending() as ending):
            return ending
        case ClaimCall(task) | ClaimPart(task) if row.document is not None:
            return Ending.of(task, row.document)
        case Cancel(task=task) if task is not None and row.document is not None:
            return Ending.of(task, row.document)
        case _:
            return Ending()
