"""Ending: what the end of one life of a task adds to the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from .records import ResultDocument, Status
from .task import AcceptedTask

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Ending:
    """``cost_usd`` and ``list_cost_usd`` are as the ledger counts them: nothing where the model has no price. The
    record of a redriven task has the cost of its earlier lives as well. That was counted when those ended, and is left
    out.

    ``latency_s`` is the time from the acceptance to the record, of an answered task; None for any other. ``late``: it
    was answered after its deadline. ``premium_usd`` is None where no deadline took the task out of batching.
    """

    cost_usd: Decimal = ZERO
    list_cost_usd: Decimal = ZERO
    premium_usd: Decimal | None = None
    latency_s: float | None = None
    late: bool = False

    @classmethod
    def of(cls, task: AcceptedTask, document: ResultDocument) -> Ending:
        record = document.record
        counted_before = task.spent_usd if task.generation and not task.unpriced else ZERO
        answered = record.status is Status.ANSWERED
        return cls(
            cost_usd=(record.cost_usd or ZERO) - counted_before,
            list_cost_usd=ZERO if record.cost_usd is None else record.list_cost_usd or ZERO,
            premium_usd=document.premium_usd,
            latency_s=max(0.0, (record.finished_at - record.accepted_at).total_seconds()) if answered else None,
            late=answered and not record.deadline_met,
        )
