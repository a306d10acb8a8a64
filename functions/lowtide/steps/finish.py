"""Finish: a batch is through with its parts, and leaves no claim behind in them.

A drain that outlives its lease may claim tasks for a part whose batch is written already. The parts are done first,
and the claims read after that: who claimed before is found here, who claims later finds its part done (drain).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lowtide.core.batches import BatchRow
from lowtide.core.manifest import ManifestLine
from lowtide.core.parts import Finish, Open, PartLine, PartState
from lowtide.core.tasks import Carry, TaskEvent, TaskRow, TaskState, Verdict
from lowtide.ports import Change, System

from .drain import part_row, write_part

READ_ROWS = 500
"""Rows read at a time."""


def finish_parts(system: System, row: BatchRow) -> None:
    """Every line that the batch sent has its end, or its place in another part. Parts that never joined it stay as
    they are. All of it may be repeated."""
    parts = system.parts.get(row.part_ids)
    changes = [Change(part_id, Finish(row.batch_id), part) for part_id, part in zip(row.part_ids, parts, strict=True)]
    system.parts.apply(changes, system.clock.now())
    _carry_stragglers(system, row)


def _carry_stragglers(system: System, row: BatchRow) -> None:
    """Into a part of their own. It holds every line that the batch did not send, whoever claims it: a pure function of
    what was written, so that repeating it writes the same bytes."""
    part_id = f"s-{row.batch_id}"
    unsent = list(_unsent(system, row))
    if not _any_claimed(system, unsent, {*row.part_ids, part_id}):
        return
    # Durable, then claimed, then visible.
    part = part_row(system, part_id, row.lot, unsent, row.created_at).model_copy(update={"state": PartState.CLOSED})
    write_part(system, part, unsent)
    now = system.clock.now()
    event = Carry(frozenset(row.part_ids), part_id)
    changes: list[Change[TaskRow, TaskEvent]] = [Change(line.task.key, event) for line in unsent]
    carried = [d for d in system.tasks.apply(changes, now) if d.verdict in (Verdict.APPLIED, Verdict.REPEATED)]
    if carried:
        system.metrics.log("stragglers", batch_id=row.batch_id, tasks=len(carried))
        system.parts.apply([Change(part_id, Open(part))], now)


def _any_claimed(system: System, lines: Sequence[PartLine], holders: set[str]) -> bool:
    for start in range(0, len(lines), READ_ROWS):
        rows = system.tasks.get([line.task.key for line in lines[start : start + READ_ROWS]])
        if any(row is not None and row.state is TaskState.STAGED and row.holder in holders for row in rows):
            return True
    return False


def _unsent(system: System, row: BatchRow) -> Iterator[PartLine]:
    """A batch without a manifest sent nothing."""
    raws = system.objects.lines(row.manifest_key) if row.manifest_key is not None else ()
    entries = (ManifestLine.model_validate_json(raw) for raw in raws)
    sent = {(entry.part_id, entry.offset) for entry in entries}
    for part in system.parts.get(row.part_ids):
        if part is None or part.batch_id != row.batch_id:
            continue
        offset = 0
        for raw in system.objects.lines(part.object_key):
            if (part.part_id, offset) not in sent:
                yield PartLine.model_validate_json(raw)
            offset += len(raw) + 1
