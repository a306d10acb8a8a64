"""The record of a task that an operator cancelled."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from .records import ErrorInfo, ResultDocument, ResultRecord, Status, Usage
from .task import AcceptedTask, record_id

CANCELLED_CODE = "cancelled"
"""``error.code`` of the record."""


def cancelled(
    task: AcceptedTask, *, attempts: int, spent_usd: Decimal | None, now: datetime, batch_id: str | None = None
) -> ResultDocument:
    """``attempts`` were begun and brought no answer, for ``spent_usd``; ``batch_id`` is the provider's, where a batch
    was cancelled around the task. An answer that comes after all is no part of it: it is counted as ``repaid``.
    """
    record = ResultRecord(
        id=record_id(task),
        custom_id=task.task_id,
        response=None,
        error=ErrorInfo(code=CANCELLED_CODE, message="an operator cancelled the task before it was answered"),
        task_id=task.task_id,
        tenant=task.tenant,
        type=task.type,
        tags=task.tags,
        tier=task.tier,
        lane=None,
        model=task.model,
        status=Status.CANCELLED,
        attempts=attempts,
        batch_id=batch_id,
        usage=Usage(),
        cost_usd=spent_usd,
        list_cost_usd=None,
        accepted_at=task.accepted_at,
        finished_at=now,
        deadline_met=False,
        route=f"{task.route}; cancelled",
    )
    return ResultDocument(record=record)
