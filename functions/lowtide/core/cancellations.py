"""The record of a task that an operator cancelled."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import orjson

from .records import ErrorInfo, ResultDocument, ResultRecord, Status, Usage
from .task import AcceptedTask, record_id

TAGS_BYTES = 64 * 1024
"""Of a record that a row itself keeps. A row holds 400 KB (DynamoDB), and a message may bring 1 MiB of tags."""

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


def fit_for_a_row(document: ResultDocument) -> ResultDocument:
    """Without tags that no row could hold: they are the sender's labels, and the cancel must take."""
    record = document.record
    if len(orjson.dumps(record.tags)) <= TAGS_BYTES:
        return document
    return document.model_copy(update={"record": record.model_copy(update={"tags": {}})})
