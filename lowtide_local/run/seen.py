"""How a run stands, for the person who waits for it."""

from __future__ import annotations

from lowtide.core.batches import BatchRow, BatchState
from lowtide.core.tasks import TaskState
from lowtide.ports import System
from lowtide_local.engine.engine import Engine

from .contact import Contact
from .feed import Feed
from .onlooker import OpenBatch, Progress


def seen(system: System, engine: Engine, feed: Feed, contact: Contact, *, fed: bool) -> Progress:
    counts = engine.tasks.counts()
    return Progress(
        accepted=sum(counts.values()),
        answered=counts.get(TaskState.ANSWERED, 0),
        dead=counts.get(TaskState.DEAD, 0),
        fed=fed,
        refused=feed.refused,
        batches=tuple(_open(row, contact) for row in system.batches.active() if row.requests),
        silent_s=contact.silent_s,
    )


def _open(row: BatchRow, contact: Contact) -> OpenBatch:
    provider = row.provider_batch
    if provider is None or row.state is not BatchState.RUNNING:
        name = provider.id if provider is not None else row.batch_id
        return OpenBatch(name, row.lot.model, row.state.value, row.requests)
    latest = contact.batches.get(provider.id, provider)
    counts = latest.counts
    return OpenBatch(
        provider.id,
        row.lot.model,
        latest.status.value,
        row.requests,
        counts.completed,
        counts.failed,
    )
