"""A part on its way into its object: its lines go through a temporary file, its row is summed up meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from lowtide.core.parts import Lot, PartLine, PartRow, part_object
from lowtide.core.tenants import shares
from lowtide.core.weights import Weight
from lowtide.ports import Objects

from .spool import Spooled

READ_ROWS = 500
"""Rows read or moved at a time while a part is gone through."""

READ_BYTES = 2_000_000
"""Of the lines of a part in hand at a time: read, they take several times as much memory."""


class PartFile(Spooled):
    """``with PartFile() as part``: add the lines, put them, open the row. Holds one line in memory at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks = self._inputs = self._bytes = self._tokens = 0
        self._tenants: Counter[str] = Counter()
        self._oldest_at: datetime | None = None
        self._tightest_deadline: datetime | None = None

    def __len__(self) -> int:
        return self._tasks

    def add(self, line: PartLine, weight: Weight) -> None:
        self._file.write(line.model_dump_json().encode() + b"\n")
        task = line.task
        self._tasks += 1
        self._tenants[task.tenant] += 1
        self._inputs += weight.inputs
        self._bytes += weight.bytes
        self._tokens += weight.tokens
        self._oldest_at = min(self._oldest_at or task.accepted_at, task.accepted_at)
        self._tightest_deadline = min(self._tightest_deadline or task.deadline_at, task.deadline_at)

    def row(self, part_id: str, lot: Lot, now: datetime) -> PartRow:
        """The row of the part as it stands. A part without lines has none."""
        if self._oldest_at is None or self._tightest_deadline is None:
            raise AssertionError("a part holds at least one line")
        return PartRow(
            part_id=part_id,
            lot=lot,
            object_key=part_object(part_id),
            tasks=self._tasks,
            inputs=self._inputs,
            bytes=self._bytes,
            tokens=self._tokens,
            shares=shares(self._tenants),
            oldest_at=self._oldest_at,
            tightest_deadline=self._tightest_deadline,
            created_at=now,
        )

    def put(self, objects: Objects, part: PartRow) -> None:
        """Durable when it returns."""
        self._file.seek(0)
        objects.put(part.object_key, self._file)


def placed(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of each line of a part's object."""
    offset = 0
    for raw in lines:
        yield offset, raw
        offset += len(raw) + 1
