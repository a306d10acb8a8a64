"""Voiding: leases of a process that died bind nobody.

On AWS a lease is waited out, because its holder may live. Here the directory's lock proves that it is dead.
"""

from __future__ import annotations

from datetime import datetime

from lowtide.core.batches import BatchState
from lowtide.core.pace_rows import Breaker
from lowtide.core.parts import PartState
from lowtide.core.tasks import TaskState

from .database import Database
from .moments import to_ms
from .rows import batches_rows, paces_rows, parts_rows, tasks_rows


def void_leases(database: Database, now: datetime) -> None:
    """One transaction. Repeating it changes nothing that matters.

    A claimed call may be taken over at once (as attempt + 1, repaid + 1), an open part sealed, a batch leased, a
    message in flight received again, an open breaker probed. What waits on purpose keeps waiting: delayed messages,
    retries' ``not_before``.
    """
    with database.transaction():
        tasks_rows(database).amend(TaskState.CALLING, {"claimed_until": now})
        parts_rows(database).amend(PartState.OPEN, {"lease_until": now})
        for state in BatchState:
            if state is not BatchState.DONE:
                batches_rows(database).amend(state, {"lease": None, "lease_until": None})
        # Whoever starts it again has perhaps renewed the key, or the server.
        paces_rows(database).amend(Breaker.OPEN, {"retry_at": now})
        paces_rows(database).amend(Breaker.HALF_OPEN, {"probe_until": now})
        database.execute(
            "UPDATE messages SET visible_at = ? WHERE visible_at > ? AND receives > 0", (to_ms(now), to_ms(now))
        )
