"""Restage: lines of a batch that go again, into a part of their own: durable, then claimed, then visible.

Such a part is one object however many lines it has, because its content must be a function of the batch's files
alone: whoever repeats the step writes the same part. It is written, claimed and read as a stream.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256

from lowtide.core.batches import BatchRow
from lowtide.core.outcomes import Again, backoff_s
from lowtide.core.parts import Open, PartLine, PartState
from lowtide.core.portions import portions
from lowtide.core.quotes import Prompt
from lowtide.core.tasks import Restage, TaskEvent, TaskRow
from lowtide.core.weights import weigh
from lowtide.ports import Change, System

from .in_vain import count_in_vain
from .part_file import READ_BYTES, READ_ROWS, PartFile
from .spool import Spooled

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


class LinesAgain(Spooled):
    """The lines that go again, on disk until all of them are known. ``refused``: the first one's reason among those
    for which the account was refused. ``together``: by tenant where a hold keeps its lines apart, and by None for all
    the others, the places of the lines that go into one part, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self._starts = array("Q")
        self._end = 0
        self._attempts = array("Q")
        self._unsure = bytearray()
        self._account = bytearray()
        self.refused: Again | None = None
        self.together: dict[str | None, array[int]] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, attempt: int, line: PartLine, why: Again, *, apart: bool = False) -> None:
        self.together.setdefault(line.task.tenant if apart else None, array("Q")).append(len(self))
        self._attempts.append(attempt)
        self._unsure.append(why.unsure)
        self._account.append(why.account)
        if why.account and self.refused is None:
            # Its words may quote the line, and leave the function as its failure.
            self.refused = replace(why, message=Prompt.of(line.task).without(why.message))
        raw = line.model_dump_json().encode() + b"\n"
        self._file.write(raw)
        self._starts.append(self._end)
        self._end += len(raw)

    def worst(self, places: Sequence[int]) -> int:
        """The most attempts that any of them had, counted or not."""
        return max(self._attempts[place] for place in places)

    def any_refused(self, places: Sequence[int]) -> bool:
        return any(self._account[place] for place in places)

    def read(self, places: Sequence[int]) -> Iterator[LineAgain]:
        """Those that were added at these places: they alone are read. One reader at a time."""
        for place in places:
            self._file.seek(self._starts[place])
            raw = self._file.readline()
            unsure = bool(self._unsure[place])
            yield LineAgain(len(raw), self._attempts[place], unsure, PartLine.model_validate_json(raw))


PATIENTLY = 5.0
"""Factor on the wait of lines if the provider failed the whole batch. Each line has only a few attempts."""


def send_again(
    system: System, row: BatchRow, again: LinesAgain, *, halves: bool, patiently: bool = False, early: bool = False
) -> None:
    """Into one retry part, or into two that go alone: halves of a batch that failed for a line that nobody named. A
    tenant's that are held have parts of their own, which wait without keeping others waiting. ``patiently``: the
    provider failed the whole batch. ``early``: the others of the batch wait for a file, and get a
    part of their own later."""
    for tenant, places in again.together.items():
        name = f"{'e' if early else 'r'}-{row.batch_id}"
        if tenant is not None:
            name += f"-{sha256(tenant.encode()).hexdigest()[:12]}"
        if halves:
            middle = (len(places) + 1) // 2
            _retry(system, row, again, places[:middle], _Retry(f"{name}-1", tenant, alone=True))
            _retry(system, row, again, places[middle:], _Retry(f"{name}-2", tenant, alone=True))
        else:
            slower = PATIENTLY if patiently else 1.0
            _retry(system, row, again, places, _Retry(name, tenant, alone=False, slower=slower))


@dataclass(frozen=True, slots=True)
class _Retry:
    """``tenant``, ``alone``: see PartRow. ``slower``: factor on the wait."""

    part_id: str
    tenant: str | None
    alone: bool
    slower: float = 1.0


def _retry(system: System, row: BatchRow, again: LinesAgain, places: Sequence[int], retry: _Retry) -> None:
    """Durable, then claimed, then visible: a pure function of the batch's input and output, and of its row."""
    if not places:
        return
    if row.collected_at is None:
        raise AssertionError("collecting has begun")
    part_id = retry.part_id
    retries = system.routes.retries
    # By attempts, counted or not: what comes back again and again comes back later each time.
    worst = again.worst(places)
    base_s, cap_s = retries.batch_base_s * retry.slower, retries.cap_s * retry.slower
    wait = backoff_s(worst, base_s=base_s, cap_s=cap_s, seed=part_id)
    if again.any_refused(places):
        wait = max(wait, ACCOUNT_WAIT_S)
    with PartFile() as file:
        for each in again.read(places):
            file.add(each.line, weigh(each.line.task))
        part = file.row(part_id, row.lot, row.collected_at).model_copy(
            update={
                "state": PartState.CLOSED,
                "not_before": row.collected_at + timedelta(seconds=wait),
                "alone": retry.alone,
                "tenant": retry.tenant,
            }
        )
        file.put(system.objects, part)
    holders = frozenset(row.part_ids)
    now = system.clock.now()
    for portion in portions(again.read(places), lambda each: each.size, most=READ_ROWS, most_bytes=READ_BYTES):
        changes: list[Change[TaskRow, TaskEvent]] = [
            Change(
                each.line.task.key,
                Restage(each.attempt, holders, part_id, each.line.strikes, unsure=int(each.unsure)),
            )
            for each in portion
        ]
        count_in_vain(system, system.tasks.apply(changes, now))
    system.parts.apply([Change(part_id, Open(part))], now)
