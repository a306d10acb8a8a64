"""Finish: a batch is through with its parts, and leaves no claim behind in them.

A drain that outlives its lease may claim tasks for a part whose batch is written already. The parts are done first,
and the claims read after that: who claimed before is found here, who claims later finds its part done (drain).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count

from lowtide.core.batches import BatchRow
from lowtide.core.errors import NewerSchema
from lowtide.core.manifest import ManifestLine
from lowtide.core.parts import Finish, Open, PartLine, PartRow, PartState
from lowtide.core.portions import portions
from lowtide.core.tasks import Carry, TaskEvent, TaskRow, TaskState, Verdict
from lowtide.core.weights import weigh
from lowtide.ports import Change, System

from .newer import rows_or_newer
from .part_file import READ_BYTES, READ_ROWS, PartFile, placed


def finish_parts(system: System, row: BatchRow) -> bool:
    """Every line that the batch sent has its end, or its place in another part. Parts that never joined it stay as
    they are. All of it may be repeated.

    Return False while a newer release's task may wait in these parts: the batch must not be done before a release
    that can read its row has carried it."""
    parts = system.parts.get(row.part_ids)
    changes = [Change(part_id, Finish(row.batch_id), part) for part_id, part in zip(row.part_ids, parts, strict=True)]
    system.parts.apply(changes, system.clock.now())
    newer = _carry_stragglers(system, row)
    if newer:
        system.metrics.log("newer_rows", kind="task", batch_id=row.batch_id, rows=newer)
    return not newer


def _carry_stragglers(system: System, row: BatchRow) -> int:
    """Into a part of their own. It holds every line that the batch did not send, whoever claims it: a pure function of
    what was written, so that repeating it writes the same bytes. Read, written and claimed as a stream. Return how many
    rows of those lines are a newer release's."""
    parts = [part for part in system.parts.get(row.part_ids) if part is not None and part.batch_id == row.batch_id]
    if sum(part.tasks for part in parts) == row.requests:
        return 0  # as many lines as the parts hold: it sent them all, and nothing has to be read
    # Of those that joined it: what another batch took of the parts that it wanted is that one's to bring.
    joined = frozenset(part.part_id for part in parts)
    part_id = _next_part_id(system, row)
    claimed, newer = _looked_at(system, _portions(system, row, parts), joined | {part_id})
    if not claimed:
        return newer
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
        rows = rows_or_newer(system.tasks, [line.task.key for line in lines])
        changes: list[Change[TaskRow, TaskEvent]] = [
            Change(line.task.key, event, row)
            for line, row in zip(lines, rows, strict=True)
            if not isinstance(row, NewerSchema)
        ]
        decisions = system.tasks.apply(changes, now)
        carried += sum(decision.verdict in (Verdict.APPLIED, Verdict.REPEATED) for decision in decisions)
    if carried:
        system.metrics.log("stragglers", batch_id=row.batch_id, tasks=carried)
        system.parts.apply([Change(part_id, Open(part))], now)
    return newer


def _next_part_id(system: System, row: BatchRow) -> str:
    """Return the first id that names no part yet. There is one already where a newer release's tasks were left behind:
    it may have been sent since, and a task that is carried now would join it too late."""
    for number in count():
        part_id = f"s-{row.batch_id}" + (f"-{number}" if number else "")
        if rows_or_newer(system.parts, [part_id]) == [None]:
            return part_id
    raise AssertionError("numbers do not end")


def _looked_at(system: System, portions_: Iterator[list[PartLine]], holders: frozenset[str]) -> tuple[bool, int]:
    """(Does one of the holders claim a line?, how many rows are a newer release's)."""
    claimed, newer = False, 0
    for lines in portions_:
        for row in rows_or_newer(system.tasks, [line.task.key for line in lines]):
            if isinstance(row, NewerSchema):
                newer += 1
            elif row is not None and row.state is TaskState.STAGED and row.holder in holders:
                claimed = True
    return claimed, newer


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
