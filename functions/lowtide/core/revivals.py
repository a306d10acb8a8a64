"""A dead task's next life: accepted once more, by the rules of today."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from .acceptance import accept
from .routes import Routes
from .task import AcceptedTask
from .tasks import TaskRow

_SHORTEST = timedelta(seconds=1)


def revive(row: TaskRow, message: dict[str, Any], routes: Routes, now: datetime) -> AcceptedTask:
    """What a redrive of ``row`` sends: ``message`` is the task as it came. Raises Refused where the routes of today do
    not take it.

    Its deadline starts anew, as long as it was: one that was given as a moment has passed by now. It keeps its origin,
    so that deliveries of it that are still about are redeliveries and no duplicates; the generation tells them apart.
    Asked again before anybody claimed it, it comes out the same.
    """
    started = row.accepted_at if row.redriving else now
    raw = dict(message)
    if raw.pop("deadline_at", None) is not None:
        raw["deadline_seconds"] = max(_SHORTEST, row.deadline_at - row.accepted_at).total_seconds()
    task = accept(raw, origin=row.origin, sent_at=started, routes=routes)
    return task.model_copy(
        update={
            "message": message,
            "content_hash": row.content_hash,
            "generation": row.generation if row.redriving else row.generation + 1,
            "route": f"{task.route}; redriven",
        }
    )
