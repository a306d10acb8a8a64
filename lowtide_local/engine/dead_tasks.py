"""Dead tasks in SQLite."""

from __future__ import annotations

from collections.abc import Iterator

from lowtide.core.dead import DeadFilter
from lowtide.core.task_rows import TaskRow

from .database import Database

# A redriven task keeps the moment of its death until it is taken up; no other queued one has any.
_FIND = """
SELECT key FROM rows
WHERE kind = 'task' AND (state = 'dead' OR (state = 'queued' AND json_extract(body, '$.settled_at') IS NOT NULL))
ORDER BY json_extract(body, '$.settled_at') DESC
"""


class SqliteDeadTasks:
    """A ports.DeadTasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, wanted: DeadFilter) -> Iterator[TaskRow]:
        keys = [key for (key,) in self._database.execute(_FIND).fetchall()]
        for key in keys:
            found = self._database.execute("SELECT body FROM rows WHERE kind = 'task' AND key = ?", (key,)).fetchone()
            row = TaskRow.model_validate_json(found[0])
            if wanted.takes(row):
                yield row
