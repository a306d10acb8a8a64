"""Hint: somebody says that a batch has ended, so it is looked at now instead of when its next look is due.

A hint decides nothing. It names a batch at the provider; the batch is collected as the schedule would collect it, by
what the provider itself says when asked. So a hint that is false, late, repeated or out of order changes nothing, and
one that is lost costs the time until the schedule looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import ValidationError

from lowtide.core.errors import safely_told
from lowtide.core.webhooks import Hint
from lowtide.ports import Message, System

from .collect import collect


async def follow(system: System, messages: Sequence[Message], *, stop_at: datetime | None = None) -> list[Message]:
    """One look at each batch that is named, however often; after ``stop_at`` no other is begun.

    Returns the messages whose batches failed their step or were not reached. A batch that is not ours, or not running
    (any more), is counted as ``unknown`` and passed over.
    """
    named: dict[str, list[Message]] = {}
    for message in messages:
        if (batch_id := _named(message)) is None:
            system.metrics.count("hints", outcome="unreadable")
        else:
            named.setdefault(batch_id, []).append(message)
    rows = {row.provider_batch.id: row for row in system.batches.active() if row.provider_batch is not None}
    again: list[Message] = []
    for batch_id, hints in named.items():
        row = rows.get(batch_id)
        if row is None:
            system.metrics.count("hints", outcome="unknown")
        elif stop_at is not None and system.clock.now() >= stop_at:
            again += hints
        else:
            try:
                await collect(system, row, hinted=True, stop_at=stop_at)
            except Exception as error:  # noqa: BLE001 - the other batches have hints as well
                system.metrics.log("hint_failed", batch_id=row.batch_id, error=safely_told(error))
                again += hints
            else:
                system.metrics.count("hints", outcome="followed")
    return again


def _named(message: Message) -> str | None:
    try:
        return Hint.model_validate_json(message.body).provider_batch_id
    except ValidationError:
        return None
