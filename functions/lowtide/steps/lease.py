"""A lease on a batch: one worker at a time, the loser goes home. It saves work; the conditional writes keep it safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

from lowtide.core.batches import BatchEvent, BatchRow, BatchVerdict, Lease
from lowtide.ports import Change, System


class LeasedBatch:
    """A batch in hand. ``row`` is the row as last written."""

    def __init__(self, system: System, row: BatchRow, owner: str) -> None:
        self._system = system
        self.row = row
        self.owner = owner

    def apply(self, event: BatchEvent) -> bool:
        """False where another took the lease: stop, whatever was half done is for that one to finish."""
        change = Change(self.row.batch_id, event, self.row)
        [decision] = self._system.batches.apply([change], self._system.clock.now())
        if decision.row is not None:
            self.row = decision.row
        return decision.verdict is not BatchVerdict.REFUSED


@contextmanager
def leased(system: System, row: BatchRow) -> Iterator[LeasedBatch | None]:
    """None where another holds the batch. Given back at the end; a crash leaves it to run out."""
    owner = uuid4().hex
    now = system.clock.now()
    lease = Lease(owner, now + timedelta(seconds=system.routes.batching.lease_s))
    [decision] = system.batches.apply([Change(row.batch_id, lease, row)], now)
    if decision.verdict is BatchVerdict.REFUSED or decision.row is None:
        yield None
        return
    batch = LeasedBatch(system, decision.row, owner)
    try:
        yield batch
    finally:
        if batch.row.active:
            batch.apply(Lease(owner, system.clock.now()))
