"""Records of settled tasks: which rows have them, and what the rows, or the shards and objects behind them, say.

Rows are read some at a time, and a shard of a batch once for all neighbours that point into it. What is in memory does
not grow with the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeGuard, TypeVar

from lowtide.adapters.aws.settled_index import Entry
from lowtide.core.errors import NewerSchema, NotFound
from lowtide.core.records import Pointer, ResultDocument, ResultRecord
from lowtide.core.task_rows import SETTLED, TaskRow
from lowtide.steps.newer import rows_or_newer

from .desk import Desk

OVERLAP = timedelta(minutes=20)
"""How far a look goes back before the last one. A row bears the moment at which its writer began, and no function lives
longer than 15 minutes (AWS Lambda quotas). This machine's clock is no more than five minutes off: AWS refuses what is
signed at another time (Signature Version 4). So a row with an earlier moment was there to be seen."""
LOOKS_BY_INDEX = 60
"""After so many looks the rows of all tasks that are left are read again. A release from before the index settles tasks
without an entry in it."""
AT_ONCE = 100
"""Rows that are read together: one call of DynamoDB. A row with its answer may have 100 KB."""

Records = list[ResultRecord]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Records of tasks that settled at ``since`` or later, of a tenant, with all these tags. None takes any."""

    since: datetime | None = None
    tenant: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def takes_key(self, key: str) -> bool:
        return self.tenant is None or key.partition(" ")[2] == self.tenant

    def takes_row(self, row: TaskRow) -> bool:
        return self.since is None or (row.settled_at is not None and row.settled_at >= self.since)

    def takes(self, record: ResultRecord) -> bool:
        return all(record.tags.get(name) == value for name, value in self.tags.items())


class _Reader:
    """Rows and their records, of which ``given`` were handed out. ``gone`` records were removed by retention; ``newer``
    rows are a newer release's. ``unreadable``: where records lie that are none."""

    def __init__(self, desk: Desk, wanted: Wanted) -> None:
        self.given = 0
        self.gone = 0
        self.newer = 0
        self.unreadable: list[str] = []
        self._desk = desk
        self._wanted = wanted
        self._key = ""
        self._shard = b""

    def rows(self, keys: Sequence[str]) -> list[TaskRow | NewerSchema | None]:
        rows = rows_or_newer(self._desk.system.tasks, keys)
        self.newer += sum(isinstance(row, NewerSchema) for row in rows)
        return rows

    def records(self, rows: Sequence[TaskRow]) -> Iterator[ResultRecord]:
        """Those that are wanted: first of the rows that have them, then of those that point to them."""
        wanted = [row for row in rows if self._wanted.takes_row(row)]
        for row in wanted:
            if row.document is not None:
                yield from self._taken(row.document)
        yield from self.behind([row.pointer for row in wanted if row.pointer is not None])

    def behind(self, pointers: Sequence[Pointer]) -> Iterator[ResultRecord]:
        shared = Counter(pointer.key for pointer in pointers)
        for pointer in sorted(pointers, key=lambda pointer: (pointer.key, pointer.offset)):
            try:
                data = self._data(pointer, alone=shared[pointer.key] == 1)
            except NotFound:
                self.gone += 1
                continue
            try:
                document = ResultDocument.model_validate_json(data)
            except ValueError:
                self.unreadable.append(f"{pointer.key} at {pointer.offset}")
                continue
            yield from self._taken(document)

    def _taken(self, document: ResultDocument) -> Iterator[ResultRecord]:
        if self._wanted.takes(document.record):
            self.given += 1
            yield document.record

    def _data(self, pointer: Pointer, *, alone: bool) -> bytes:
        """The last shard is kept: its neighbours come next. Raises NotFound."""
        if pointer.key != self._key:
            if alone:
                return self._desk.system.objects.get(pointer.key, offset=pointer.offset, length=pointer.length)
            self._shard = self._desk.system.objects.get(pointer.key)
            self._key = pointer.key
        return self._shard[pointer.offset : pointer.offset + pointer.length]


class SettledResults(_Reader):
    """Records by when their tasks settled, each once.

    ``position``: every record of a task that settled before it has been given. None: from the beginning.
    """

    def __init__(self, desk: Desk, wanted: Wanted) -> None:
        super().__init__(desk, wanted)
        self.position = wanted.since
        self._seen: set[Entry] = set()

    def look(self) -> Iterator[Records]:
        """What has settled and was not given yet, the first to settle first, some at a time."""
        begin = self.position
        certain = _later(begin, _earlier(self._desk.system.clock.now()))
        entries = (entry for entry in self._desk.settled.since(begin) if self._is_new(entry))
        for some in _some(entries):
            yield self._records(some)
            self._seen.update(entry for entry in some if entry.at >= certain)
            self.position = _later(begin, min(some[-1].at, certain))
        self.position = certain
        self._seen = {entry for entry in self._seen if entry.at >= certain}

    def _is_new(self, entry: Entry) -> bool:
        return self._wanted.takes_key(entry.key) and entry not in self._seen

    def _records(self, entries: Sequence[Entry]) -> Records:
        rows = self.rows([entry.key for entry in entries])
        # A task that was redriven and has settled again since has another entry, which brings its record.
        pairs = zip(entries, rows, strict=True)
        return [*self.records([row for entry, row in pairs if _ended(row) and row.settled_at == entry.at])]


class NamedResults(_Reader):
    """Records of given tasks, each once. ``left``: the keys of those that were not seen to end."""

    def __init__(self, desk: Desk, wanted: Wanted, keys: Iterable[str]) -> None:
        super().__init__(desk, wanted)
        self.left = dict.fromkeys(keys)
        self._begin: datetime | None = None
        self._looks = 0

    def look(self) -> Iterator[Records]:
        """First, and now and then, by the rows themselves; between that the index says which of them to read again."""
        now = self._desk.system.clock.now()
        if self._begin is None or self._looks % LOOKS_BY_INDEX == 0:
            yield from self._first()
        else:
            entries = (entry for entry in self._desk.settled.since(self._begin) if entry.key in self.left)
            for some in _some(entries):
                yield [*self.records(self._ended([entry.key for entry in some]))]
        self._begin = _earlier(now)
        self._looks += 1

    def _first(self) -> Iterator[Records]:
        """Records in shards come last, sorted by where they lie: each shard is read once, however the tasks stand."""
        places: list[tuple[str, int, int]] = []
        for keys in _some(list(self.left)):
            rows = [row for row in self._ended(keys) if self._wanted.takes_row(row)]
            places += [(at.key, at.offset, at.length) for row in rows if (at := row.pointer) is not None]
            yield [*self.records([row for row in rows if row.pointer is None])]
        for some in _some(sorted(places)):
            yield [*self.behind([Pointer(key=key, offset=offset, length=length) for key, offset, length in some])]

    def _ended(self, keys: Sequence[str]) -> list[TaskRow]:
        """Those that have a record are no longer left; nor are those that only a newer release can read."""
        rows = self.rows(keys)
        for key, row in zip(keys, rows, strict=True):
            if isinstance(row, NewerSchema) or _ended(row):
                self.left.pop(key, None)
        return [row for row in rows if _ended(row)]


def _ended(row: TaskRow | NewerSchema | None) -> TypeGuard[TaskRow]:
    return isinstance(row, TaskRow) and row.state in SETTLED


def _some(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, AT_ONCE)):
        yield some


def _earlier(now: datetime) -> datetime:
    """Cut to milliseconds, as rows bear their moments."""
    begin = now - OVERLAP
    return begin.replace(microsecond=begin.microsecond // 1000 * 1000)


def _later(begin: datetime | None, moment: datetime) -> datetime:
    return moment if begin is None else max(begin, moment)
