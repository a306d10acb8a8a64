"""Finish: a batch is through with its parts, and leaves no claim behind in them.

A drain that outlives its lease may claim tasks for a part whose batch is written already. The parts are done first,
and the claims read after that: who claimed before is found here, who claims later finds its part done (drain).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from lowtide.core.batches import BatchRow
from lowtide.core.manifest import ManifestLine
from lowtide.core.parts import Finish, Open, PartLine, PartRow, PartState
from lowtide.core.portions import portions
from lowtide.core.tasks import Carry, TaskEvent, TaskRow, TaskState, Verdict
from lowtide.core.weights import weigh
from lowtide.ports import Change, System

from .part_file import READ_BYTES, READ_ROWS, PartFile, placed


def finish_parts(system: System, row: BatchRow) -> None:
    """Every line that the batch sent has its end, or its place in another part. Parts that never joined it stay as
    they are. All of it may be repeated."""
    parts = system.parts.get(row.part_ids)
    changes = [Change(part_id, Finish(row.batch_id), part) for part_id, part in zip(row.part_ids, parts, strict=True)]
    system.parts.apply(changes, system.clock.now())
    _carry_stragglers(system, row)


def _carry_stragglers(system: System, row: BatchRow) -> None:
    """Into a part of their own. It holds every line that the batch did not send, whoever claims it: a pure function of
    what was written, so that repeating it writes the same bytes. Read, written and claimed as a stream."""
    parts = [part for part in system.parts.get(row.part_ids) if part is not None and part.batch_id == row.batch_id]
    if sum(part.tasks for part in parts) == row.requests:
        return  # as many lines as the parts hold: it sent them all, and nothing has to be read
    part_id = f"s-{row.batch_id}"
    # Of those that joined it: what another batch took of the parts that it wanted is that one's to bring.
    joined = frozenset(part.part_id for part in parts)
    if not _any_claimed(system, _portions(system, row, parts), joined | {part_id}):
        return
    # Durable, then claimed, then visible.
    with PartFile() as file:
        for _, line in _unsent(system, row, parts):
            file.add(line, weigh(line.task))
        part = file.row(part_id, row.lot, row.created_at).model_copy(update={"state": PartState.CLOSED})
        file.put(system.objects, part)
    now = system.clock.now()
    event = Carry(joined, part_id)
    carried = 0
    for lines in _portions(system, row, parts):
        changes: list[Change[TaskRow, TaskEvent]] = [Change(line.task.key, event) for line in lines]
        decisions = system.tasks.apply(changes, now)
        carried += sum(decision.verdict in (Verdict.APPLIED, Verdict.REPEATED) for decision in decisions)
    if carried:
        system.metrics.log("stragglers", batch_id=row.batch_id, tasks=carried)
        system.parts.apply([Change(part_id, Open(part))], now)


def _any_claimed(system: System, portions_: Iterator[list[PartLine]], holders: frozenset[str]) -> bool:
    for lines in portions_:
        rows = system.tasks.get([line.task.key for line in lines])
        if any(row is not None and row.state is TaskState.STAGED and row.holder in holders for row in rows):
            return True
    return False


def _portions(system: System, row: BatchRow, parts: Sequence[PartRow]) -> Iterator[list[PartLine]]:
    unsent = _unsent(system, row, parts)
    for portion in portions(unsent, lambda each: each[0], most=READ_ROWS, most_bytes=READ_BYTES):
        yield [line for _, line in portion]


def _unsent(system: System, row: BatchRow, parts: Sequence[PartRow]) -> Iterator[tuple[int, PartLine]]:
    """(bytes, line) of each that the manifest does not name. A batch without a manifest sent nothing."""
    sent: dict[str, set[int]] = defaultdict(set)
    for raw in system.objects.lines(row.manifest_key) if row.manifest_key is not None else ():
        entry = ManifestLine.model_validate_json(raw)
        sent[entry.part_id].add(entry.offset)
    for part in sorted(parts, key=lambda part: part.part_id):
        for offset, raw in placed(system.objects.lines(part.object_key)):
            if offset not in sent[part.part_id]:
                yield len(raw), PartLine.model_validate_json(raw)
