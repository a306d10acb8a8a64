"""Rows in SQLite, moved by the same pure transitions as on AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from lowtide.core import batches, holds, pace, parts, tasks
from lowtide.core.batches import BatchDecision, BatchEvent, BatchRow
from lowtide.core.errors import TooLarge
from lowtide.core.holds import HoldDecision, HoldEvent, HoldRow
from lowtide.core.pace_events import PaceDecision, PaceEvent
from lowtide.core.pace_rows import PaceRow
from lowtide.core.parts import PartDecision, PartEvent, PartRow
from lowtide.core.tasks import Decision, TaskEvent, TaskRow
from lowtide.ports import Change

from .database import Database

R = TypeVar("R", bound=TaskRow | PartRow | BatchRow | HoldRow | PaceRow)
E = TypeVar("E")
D = TypeVar("D", bound=Decision | PartDecision | BatchDecision | HoldDecision | PaceDecision)

ROW_BYTES = 400 * 1024
"""DynamoDB's limit for one item."""
_BESIDE_BYTES = 1536
"""More than an item's attributes beside its key and its body take there."""
_SCAN_ROWS = 200
"""Rows in memory at a time."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[R, E, D]):
    """What is kept, under which name, and how it moves."""

    name: str
    model: type[R]
    transition: Callable[[R | None, E, datetime], D]
    listed: bool = True
    """May steps ask for every active row?"""


class SqliteRows(Generic[R, E, D]):
    """A ports.Rows. A list of changes is one transaction: all of them, or after an error none."""

    def __init__(self, database: Database, kind: Kind[R, E, D]) -> None:
        self._database = database
        self._kind = kind

    def get(self, keys: Sequence[str]) -> list[R | None]:
        return [self._read(key, None) for key in keys]

    def apply(self, changes: Sequence[Change[R, E]], now: datetime) -> list[D]:
        """Raises TooLarge where a row would not fit into an item on AWS. Never Contended: writers take turns."""
        with self._database.transaction():
            return [self._apply(change, now) for change in changes]

    def active(self) -> list[R]:
        if not self._kind.listed:
            raise TypeError(f"{self._kind.name} rows are too many to list")
        found = self._database.execute(
            "SELECT body FROM rows WHERE kind = ? AND active ORDER BY seq", (self._kind.name,)
        ).fetchall()
        return [self._parse(body) for (body,) in found]

    def counts(self) -> dict[str, int]:
        """How many rows are in each state that any is in."""
        return dict(
            self._database.execute(
                "SELECT state, count(*) FROM rows WHERE kind = ? GROUP BY state", (self._kind.name,)
            ).fetchall()
        )

    def scan(self) -> Iterator[R]:
        """Every row in the order of creation, a few at a time; rows may be written meanwhile."""
        last = 0
        while found := self._database.execute(
            "SELECT seq, body FROM rows WHERE kind = ? AND seq > ? ORDER BY seq LIMIT ?",
            (self._kind.name, last, _SCAN_ROWS),
        ).fetchall():
            for _, body in found:
                yield self._parse(body)
            last = found[-1][0]

    def amend(self, state: str, changes: Mapping[str, object]) -> int:
        """Overwrites fields of every row in ``state``, past all transitions, and returns how many.

        Only for what is done to a directory before anything works in it, as voiding is.
        """
        with self._database.transaction():
            found = self._database.execute(
                "SELECT key, body FROM rows WHERE kind = ? AND state = ?", (self._kind.name, state)
            ).fetchall()
            for key, body in found:
                row = self._parse(body)
                self._write(key, row, cast("R", row.model_copy(update=changes)))
        return len(found)

    def _apply(self, change: Change[R, E], now: datetime) -> D:
        row = self._read(change.key, change.seen)
        decision = self._kind.transition(row, change.event, now)
        if not decision.changed:
            return decision
        written = self._write(change.key, row, cast("R", decision.row))
        return cast("D", replace(cast("Any", decision), row=written))

    def _read(self, key: str, seen: R | None) -> R | None:
        found = self._database.execute(
            "SELECT rev, body FROM rows WHERE kind = ? AND key = ?", (self._kind.name, key)
        ).fetchone()
        if found is None:
            return None
        rev, body = found
        # A good guess saves parsing what is known already.
        return seen if seen is not None and seen.rev == rev else self._parse(body)

    def _write(self, key: str, old: R | None, new: R) -> R:
        rev = 1 if old is None else old.rev + 1
        written = cast("R", new.model_copy(update={"rev": rev}))
        body = written.model_dump_json()
        size = len(body.encode()) + len(key.encode()) + _BESIDE_BYTES
        if size > ROW_BYTES:
            raise TooLarge(f"{key} would take {size} bytes; an item holds {ROW_BYTES}: keep its document in objects")
        columns = (rev, written.active, written.state.value, body, self._kind.name, key)
        if old is None:
            statement = "INSERT INTO rows (rev, active, state, body, kind, key) VALUES (?, ?, ?, ?, ?, ?)"
        else:
            statement = "UPDATE rows SET rev = ?, active = ?, state = ?, body = ? WHERE kind = ? AND key = ?"
        self._database.execute(statement, columns)
        return written

    def _parse(self, body: str) -> R:
        return cast("R", self._kind.model.model_validate_json(body))


TaskRows = SqliteRows[TaskRow, TaskEvent, Decision]
PartRows = SqliteRows[PartRow, PartEvent, PartDecision]
BatchRows = SqliteRows[BatchRow, BatchEvent, BatchDecision]
PaceRows = SqliteRows[PaceRow, PaceEvent, PaceDecision]
HoldRows = SqliteRows[HoldRow, HoldEvent, HoldDecision]


def tasks_rows(database: Database) -> TaskRows:
    return SqliteRows(database, Kind("task", TaskRow, tasks.transition, listed=False))


def parts_rows(database: Database) -> PartRows:
    return SqliteRows(database, Kind("part", PartRow, parts.transition))


def batches_rows(database: Database) -> BatchRows:
    return SqliteRows(database, Kind("batch", BatchRow, batches.transition))


def paces_rows(database: Database) -> PaceRows:
    return SqliteRows(database, Kind("pace", PaceRow, pace.transition))


def holds_rows(database: Database) -> HoldRows:
    return SqliteRows(database, Kind("hold", HoldRow, holds.transition))
