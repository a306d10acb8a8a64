"""Redriving many: what is meant, what it would cost, and then the order itself, some at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lowtide.core.dead import DeadFilter
from lowtide.core.errors import NewerSchema
from lowtide.core.task import task_key
from lowtide.core.task_rows import TaskRow
from lowtide.steps.newer import rows_or_newer
from lowtide.steps.redrive import Plan, RedriveOutcome, plan, redrive

from .desk import Desk
from .estimate import Estimate

AT_ONCE = 100
"""Tasks whose letters are in memory, and that are redriven together: what was sent stays sent if the next ones fail."""

Name = tuple[str, str]
"""(tenant, task_id)."""


@dataclass(slots=True)
class Preview:
    """What a redrive would do. ``unsent`` of ``names`` were redriven before and nobody has taken them up since: they
    wait for their consumer, or their redrive was cut off; sent again, the second copy is dropped."""

    names: list[Name] = field(default_factory=list)
    unsent: int = 0
    estimate: Estimate = field(default_factory=Estimate)
    left: list[tuple[Name, RedriveOutcome, str | None]] = field(default_factory=list)
    """Those that cannot be redriven, and why."""


def preview(desk: Desk, wanted: Sequence[Name] | DeadFilter, limit: int | None) -> Preview:
    """Reads the letter of each, writes nothing. ``limit``: at most so many of those that a filter finds."""
    system, made = desk.system, Preview()
    now = system.clock.now()
    for name, row in _rows(desk, wanted, limit):
        planned = plan(system, row)
        if not isinstance(planned, Plan):
            made.left.append((name, planned.outcome, planned.reason))
            continue
        made.names.append(name)
        made.unsent += planned.row.redriving
        made.estimate.add([planned.task], system.routes, system.seller, now)
    return made


def redrive_all(desk: Desk, names: Sequence[Name], sent: Callable[[int], None]) -> Counter[RedriveOutcome]:
    """``sent`` hears how many are through after each portion. Repeating it after it was cut off finishes it."""
    outcomes: Counter[RedriveOutcome] = Counter()
    for at in range(0, len(names), AT_ONCE):
        outcomes.update(each.outcome for each in redrive(desk.system, names[at : at + AT_ONCE]))
        sent(min(at + AT_ONCE, len(names)))
    return outcomes


def _rows(
    desk: Desk, wanted: Sequence[Name] | DeadFilter, limit: int | None
) -> Iterator[tuple[Name, TaskRow | NewerSchema | None]]:
    if isinstance(wanted, DeadFilter):
        for number, row in enumerate(desk.dead_tasks.find(wanted)):
            if number == limit:
                return
            yield (row.tenant, row.task_id), row
        return
    distinct = list(dict.fromkeys(wanted))
    rows = rows_or_newer(desk.system.tasks, [task_key(*name) for name in distinct])
    yield from zip(distinct, rows, strict=True)


def told(name: Name, outcome: RedriveOutcome, reason: str | None) -> dict[str, Any]:
    tenant, task_id = name
    return {"tenant": tenant, "task_id": task_id, "outcome": outcome.value, "reason": reason}
