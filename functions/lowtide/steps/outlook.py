"""Outlook: what to expect of batches, from the deployment's own history of them.

A history is one small object for each provider, model and endpoint: a sample, not an account, so that an update that
is lost costs a sample and nothing else.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256

from lowtide.core.batches import BatchRow, ProviderStatus
from lowtide.core.errors import NotFound
from lowtide.core.history import Eta, History, Sample
from lowtide.core.parts import Lot
from lowtide.core.rescues import BATCH_PRIOR, Margins, seal_by, too_soon_for_another
from lowtide.ports import System


def margins_of(system: System) -> Margins:
    return Margins.of(system.routes.batching)


class Outlook:
    """For one turn: each lot's history is read once. ``tasks`` are those of the batch in question."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._margins = margins_of(system)
        self._histories: dict[Lot, History] = {}

    def eta(self, lot: Lot, tasks: int) -> Eta:
        if lot not in self._histories:
            self._histories[lot] = _history(self._system, lot)
        return self._histories[lot].eta(tasks, BATCH_PRIOR)

    def real_time_before(self, lot: Lot, tasks: int) -> datetime:
        """What is due before goes to a faster lane rather than into another batch."""
        return too_soon_for_another(self._system.clock.now(), tasks, self.eta(lot, tasks), self._margins)

    def seal_by(self, lot: Lot, tasks: int) -> timedelta:
        """How long before its tightest deadline a batch must be on its way."""
        return seal_by(self.eta(lot, tasks), tasks, self._margins)


def note_duration(system: System, row: BatchRow) -> None:
    """Of a batch that was collected, into the history, however often. One that ran nothing, or that an operator
    stopped, says nothing of the next."""
    ended = row.provider_batch
    if row.submitted_at is None or row.collected_at is None or row.stop is not None:
        return
    if ended is None or not ended.id or ended.status is ProviderStatus.FAILED:
        return
    until = min(row.collected_at, ended.ended_at or row.collected_at)
    seconds = max(0.0, (until - row.submitted_at).total_seconds())
    history = _history(system, row.lot).noted(Sample(name=row.batch_id, size=row.requests, seconds=seconds))
    system.objects.put(_key(row.lot), history.model_dump_json().encode())


def _history(system: System, lot: Lot) -> History:
    try:
        return History.model_validate_json(system.objects.get(_key(lot)))
    except (NotFound, ValueError):
        # None yet, or one that an earlier release wrote in another form: the prior stands in for it.
        return History()


def _key(lot: Lot) -> str:
    return f"history/{sha256(lot.model_dump_json().encode()).hexdigest()[:24]}.json"
