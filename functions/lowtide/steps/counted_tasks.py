"""Counted tasks: the rows of tasks, with every change that takes effect counted in the metrics, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lowtide.core.effects import LATENCY, effects
from lowtide.core.errors import Unfinished
from lowtide.core.tasks import Decision, TaskEvent, TaskRow
from lowtide.ports import Change, Metrics, Tasks


@dataclass(frozen=True, slots=True)
class CountedTasks:
    """A ports.Tasks. What it counts is what ``rows`` wrote: a process that dies between the write and the count loses
    the count of that write, and nothing is ever counted twice (docs/adr/0033)."""

    rows: Tasks
    metrics: Metrics

    def get(self, keys: Sequence[str]) -> list[TaskRow | None]:
        return self.rows.get(keys)

    def apply(self, changes: Sequence[Change[TaskRow, TaskEvent]], now: datetime) -> list[Decision]:
        try:
            decisions = self.rows.apply(changes, now)
        except Unfinished as error:
            self._count(changes, error.outcomes)
            raise
        self._count(changes, decisions)
        return decisions

    def active(self) -> list[TaskRow]:
        return self.rows.active()

    def _count(self, changes: Sequence[Change[TaskRow, TaskEvent]], outcomes: Sequence[object]) -> None:
        for change, outcome in zip(changes, outcomes, strict=True):
            if not isinstance(outcome, Decision):
                continue
            for count in effects(change.event, outcome):
                keep = self.metrics.measure if count.name == LATENCY else self.metrics.count
                keep(count.name, count.value, **count.dimensions)
