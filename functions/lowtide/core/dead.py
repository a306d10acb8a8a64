"""Which of the dead tasks somebody means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .task_rows import TaskRow


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """None takes any. ``since`` and ``until`` bound the moment of death, both included."""

    code: str | None = None
    tenant: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, row: TaskRow) -> bool:
        died_at = row.settled_at
        return (
            row.buried
            and self.code in (None, row.error_code)
            and self.tenant in (None, row.tenant)
            and self.type in (None, row.type)
            and (self.since is None or (died_at is not None and died_at >= self.since))
            and (self.until is None or (died_at is not None and died_at <= self.until))
        )
