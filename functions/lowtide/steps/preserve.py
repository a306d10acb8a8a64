"""Preserve: what waits for long in the bucket is written anew before its lifecycle would take it.

Parts wait for as long as a hold, a refused account or the cap on open batches lasts, and prompts leave the bucket on
schedule (``PromptRetentionDays``, by the age of an object's last write). The same bytes under the same key begin that
time again, and the row says when. Cut off in between, the object is written once more.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

from lowtide.core import batches, parts
from lowtide.core.batches import BatchRow
from lowtide.core.parts import PartRow
from lowtide.ports import Change, System

from .apart import apart
from .time_left import past

EVERY = timedelta(days=5)
"""A third of the shortest ``PromptRetentionDays`` (15): what fails has ten days more before anything is gone."""
AT_ONCE = 20
"""Parts and batches in a turn whose time is up before it comes to them; else as many as are due."""


def preserve(system: System, *, stop_at: datetime | None = None) -> int:
    """How many parts and batches were written anew: those first that have waited longest for it, and after ``stop_at``
    only a few. One that fails does not keep the others from it; the turn fails after them all."""
    now = system.clock.now()
    waiting: list[PartRow | BatchRow] = [*system.parts.active(), *system.batches.active()]
    due = sorted((row for row in waiting if now - _written_at(row) >= EVERY), key=_written_at)
    kept = 0
    errors: list[Exception] = []
    for number, row in enumerate(due):
        if number >= AT_ONCE and past(system, stop_at):
            break
        with apart(system, errors, "not_preserved", row=row.key):
            _keep(system, row, now)
            kept += 1
    if kept:
        system.metrics.log("preserved", rows=kept)
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {kept + len(errors)} parts and batches could not be preserved", errors)
    return kept


def _written_at(row: PartRow | BatchRow) -> datetime:
    return row.kept_at or row.created_at


def _keep(system: System, row: PartRow | BatchRow, now: datetime) -> None:
    match row:
        case PartRow():
            _rewrite(system, row.object_key)
            system.parts.apply([Change(row.part_id, parts.Keep(now), row)], now)
        case BatchRow():
            for key in (row.file_key, row.manifest_key, row.held_key):
                if key is not None:
                    _rewrite(system, key)
            system.batches.apply([Change(row.batch_id, batches.Keep(now), row)], now)
        case _:
            assert_never(row)


def _rewrite(system: System, key: str) -> None:
    with system.objects.open(key) as content:
        system.objects.put(key, content)
