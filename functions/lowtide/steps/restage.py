"""Restage: lines of a batch that go again, into a part of their own: durable, then claimed, then visible.

Such a part is one object however many lines it has, because its content must be a function of the batch's files
alone: whoever repeats the step writes the same part. It is written, claimed and read as a stream.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from lowtide.core.batches import BatchRow
from lowtide.core.outcomes import Again, backoff_s
from lowtide.core.parts import Open, PartLine, PartState
from lowtide.core.portions import portions
from lowtide.core.tasks import Restage, TaskEvent, TaskRow
from lowtide.core.weights import weigh
from lowtide.ports import Change, System

from .part_file import READ_BYTES, READ_ROWS, PartFile

ACCOUNT_WAIT_S = 300.0
"""How long lines rest for which the account was refused: an operator has to act first. The gate keeps them back longer
where that takes longer."""


@dataclass(frozen=True, slots=True)
class LineAgain:
    """A line as it goes on, after which attempt of its task. ``size``: its bytes; ``unsure``: see Restage."""

    size: int
    attempt: int
    unsure: bool
    line: PartLine


class LinesAgain:
    """The lines that go again, on disk until all of them are known. ``refused``: the first one's reason among those
    for which the account was refused."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._attempts = array("Q")
        self._unsure = bytearray()
        self._account = bytearray()
        self.refused: Again | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, attempt: int, line: PartLine, why: Again) -> None:
        self._attempts.append(attempt)
        self._unsure.append(why.unsure)
        self._account.append(why.account)
        if why.account and self.refused is None:
            self.refused = why
        self._file.write(line.model_dump_json().encode() + b"\n")

    def worst(self, start: int, stop: int) -> int:
        """The most attempts that any of them had, counted or not."""
        return max(self._attempts[start:stop])

    def any_refused(self, start: int, stop: int) -> bool:
        return any(self._account[start:stop])

    def read(self, start: int, stop: int) -> Iterator[LineAgain]:
        """From ``start`` to before ``stop``. One reader at a time."""
        self._file.seek(0)
        columns = zip(self._file, self._attempts, self._unsure, strict=True)
        for raw, attempt, unsure in islice(columns, start, stop):
            yield LineAgain(len(raw), attempt, bool(unsure), PartLine.model_validate_json(raw))


def send_again(system: System, row: BatchRow, again: LinesAgain, *, halves: bool) -> None:
    """Into one retry part, or into two that go alone: halves of a batch that failed for a line that nobody named."""
    if halves:
        middle = (len(again) + 1) // 2
        _retry(system, row, again, 0, middle, "-1")
        _retry(system, row, again, middle, len(again), "-2")
    else:
        _retry(system, row, again, 0, len(again), "")


def _retry(system: System, row: BatchRow, again: LinesAgain, start: int, stop: int, half: str) -> None:
    """Durable, then claimed, then visible: a pure function of the batch's input and output."""
    if start == stop:
        return
    if row.collected_at is None:
        raise AssertionError("collecting has begun")
    part_id = f"r-{row.batch_id}{half}"
    retries = system.routes.retries
    # By attempts, counted or not: what comes back again and again comes back later each time.
    worst = again.worst(start, stop)
    wait = backoff_s(worst, base_s=retries.batch_base_s, cap_s=retries.cap_s, seed=part_id)
    if again.any_refused(start, stop):
        wait = max(wait, ACCOUNT_WAIT_S)
    with PartFile() as file:
        for each in again.read(start, stop):
            file.add(each.line, weigh(each.line.task))
        part = file.row(part_id, row.lot, row.collected_at).model_copy(
            update={
                "state": PartState.CLOSED,
                "not_before": row.collected_at + timedelta(seconds=wait),
                "alone": bool(half),
            }
        )
        file.put(system.objects, part)
    holders = frozenset(row.part_ids)
    now = system.clock.now()
    for portion in portions(again.read(start, stop), lambda each: each.size, most=READ_ROWS, most_bytes=READ_BYTES):
        changes: list[Change[TaskRow, TaskEvent]] = [
            Change(
                each.line.task.key,
                Restage(each.attempt, holders, part_id, each.line.strikes, unsure=int(each.unsure)),
            )
            for each in portion
        ]
        system.tasks.apply(changes, now)
    system.parts.apply([Change(part_id, Open(part))], now)
