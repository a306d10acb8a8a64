"""Rows on DynamoDB: one item a row, moved by conditional puts.

A change is decided on a guess (the row as last seen, or none) and put on the condition that the guess holds. Where it
does not, the failed put brings the row along, and the next try is decided on that. So a good guess costs one write
and no read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar, cast
from uuid import uuid4

from botocore.exceptions import ClientError

from lowtide.core import batches, holds, pace, parts, tasks
from lowtide.core.batches import BatchDecision, BatchEvent, BatchRow
from lowtide.core.errors import Contended, NewerSchema, TooLarge, Unfinished
from lowtide.core.holds import HoldDecision, HoldEvent, HoldRow, HoldState, Scope
from lowtide.core.model import utc_text
from lowtide.core.pace_events import PaceDecision, PaceEvent
from lowtide.core.pace_rows import PaceRow
from lowtide.core.parts import PartDecision, PartEvent, PartRow
from lowtide.core.tasks import Decision, TaskEvent, TaskRow
from lowtide.core.versions import check_schema
from lowtide.ports import Change, Metrics

from .backoff import tries
from .dead_index import dead_attributes
from .settled_index import settled_attributes
from .table import Item, Key, Table
from .threads import concurrently

R = TypeVar("R", bound=TaskRow | PartRow | BatchRow | HoldRow | PaceRow)
E = TypeVar("E")
T = TypeVar("T")
D = TypeVar("D", bound=Decision | PartDecision | BatchDecision | HoldDecision | PaceDecision)

MEMORY = timedelta(days=30)
"""How long a settled row is remembered (a task's id and content are its idempotency key for that long)."""

INDEX = "active"
"""The sparse index of rows that are still at work."""

_ITEM_BYTES = 400 * 1024
"""DynamoDB's limit for one item, attribute names included."""
_ATTRIBUTES_BYTES = 1536
"""More than all attributes beside the key and the body take."""
_TRIES = 10
"""Each failed try means that another writer's succeeded, so this many writers may meet on one row."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[R, E, D]):
    """What is kept, how it moves and, where its active rows are listed, since when a row counts. ``found_by`` gives
    the attributes of other indexes, in as far as a row is in them."""

    name: str
    model: type[R]
    transition: Callable[[R | None, E, datetime], D]
    since: Callable[[R], datetime] | None = None
    found_by: Callable[[R], dict[str, Any]] | None = None
    schema: int = 1
    """The version that this release writes, and the newest that it reads (core/versions.py)."""
    stand_in: Callable[[Item], R] | None = None
    """What stands for a row that a newer release wrote. None: it cannot be read, and is not written."""


def _indexed(row: TaskRow) -> dict[str, Any]:
    return dead_attributes(row) | settled_attributes(row)


TASKS: Kind[TaskRow, TaskEvent, Decision] = Kind("task", TaskRow, tasks.transition, found_by=_indexed)
PARTS: Kind[PartRow, PartEvent, PartDecision] = Kind("part", PartRow, parts.transition, lambda row: row.created_at)
BATCHES: Kind[BatchRow, BatchEvent, BatchDecision] = Kind(
    "batch", BatchRow, batches.transition, lambda row: row.created_at
)
PACES: Kind[PaceRow, PaceEvent, PaceDecision] = Kind(
    "pace", PaceRow, pace.transition, lambda row: row.opened_at or row.born_at
)


def _newer_hold(item: Item) -> HoldRow:
    """A hold of all LOW, because what it stops is not known and nothing may be spent. Resuming its scope ends it."""
    scope = item["pk"]["S"].partition("#")[2]
    return HoldRow(
        rev=int(item["rev"]["N"]),
        scope=Scope(),
        reason=f'a newer release placed "{scope}"; what it stops cannot be read: resume it, or deploy that release',
        state=HoldState.HELD if "active_kind" in item else HoldState.LIFTED,
        placed_at=datetime.fromisoformat(item["active_since"]["S"]) if "active_since" in item else _EPOCH,
    )


_EPOCH = datetime.fromtimestamp(0, UTC)

HOLDS: Kind[HoldRow, HoldEvent, HoldDecision] = Kind(
    "hold", HoldRow, holds.transition, lambda row: row.placed_at, stand_in=_newer_hold
)


class DynamoRows(Generic[R, E, D]):
    """A ports.Rows. AWS has no conditional batch write at single price: a list of changes is a concurrent loop."""

    def __init__(self, table: Table, kind: Kind[R, E, D], metrics: Metrics | None = None) -> None:
        """Active rows that a newer release wrote are logged to ``metrics``, if there are any."""
        self._table = table
        self._kind = kind
        self._metrics = metrics

    def get(self, keys: Sequence[str]) -> list[R | None]:
        items = self._table.read([self._key(key) for key in keys])
        return finished([self._row_or_newer(items.get(self._key(key))) for key in keys])

    def apply(self, changes: Sequence[Change[R, E]], now: datetime) -> list[D]:
        """Raises TooLarge where a row would not fit into an item; that row is as it was."""
        places: dict[str, list[int]] = {}
        for place, change in enumerate(changes):
            places.setdefault(change.key, []).append(place)

        def in_order(same_key: list[int]) -> list[D | Exception]:
            decisions: list[D] = []
            for place in same_key:
                change = changes[place]
                # After the first, the row as it has just been left is the better guess.
                seen = cast("R | None", decisions[-1].row) if decisions else change.seen
                try:
                    decisions.append(self._apply(replace(change, seen=seen), now))
                except Exception as error:  # noqa: BLE001 - raised below, after the other keys' changes
                    return [*decisions, *[error] * (len(same_key) - len(decisions))]
            return [*decisions]

        groups = list(places.values())
        outcomes: dict[int, D | Exception] = {}
        for group, ended in zip(groups, concurrently(in_order, groups, self._table.threads), strict=True):
            outcomes.update(zip(group, ended, strict=True))
        return finished([outcomes[place] for place in range(len(changes))])

    def active(self) -> list[R]:
        if self._kind.since is None:
            raise TypeError(f"{self._kind.name} rows are too many to list")
        listed = self._table.query(
            IndexName=INDEX,
            KeyConditionExpression="active_kind = :kind",
            ExpressionAttributeValues={":kind": {"S": self._kind.name}},
        )
        keys = [Key(item["pk"]["S"], item["sk"]["S"]) for item in listed]
        items = self._table.read(keys)
        found = [self._row_or_newer(items.get(key)) for key in keys]
        newer = sum(isinstance(row, NewerSchema) for row in found)
        if newer and self._metrics is not None:
            self._metrics.log("newer_rows", kind=self._kind.name, rows=newer)
        return [row for row in found if row is not None and not isinstance(row, NewerSchema) and row.active]

    def _apply(self, change: Change[R, E], now: datetime) -> D:
        key = self._key(change.key)
        row, known = change.seen, False
        for _ in tries(_TRIES, at_once=3):
            decision = self._kind.transition(row, change.event, now)
            if not decision.changed:
                if known:
                    return decision
                # The guess says that there is nothing to do. Only the row itself may say so.
                row, known = self._row(self._table.read([key]).get(key)), True
                continue
            seen_rev = row.rev if row is not None else 0
            written = cast("R", cast("R", decision.row).model_copy(update={"rev": seen_rev + 1}))
            overtaken = self._put(key, written, seen_rev, now)
            if overtaken is None:
                return cast("D", replace(cast("Any", decision), row=written))
            row, known = self._row(overtaken.item), True
        raise Contended(f"{self._kind.name} {change.key!r} changed under {_TRIES} tries to write it; come back later")

    def _put(self, key: Key, row: R, seen_rev: int, now: datetime) -> _Overtaken | None:
        """Writes the row if the guess holds: there is none (``seen_rev`` 0), or it has that revision."""
        item = self._item(key, row, now)
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if seen_rev:
            condition = {
                "ConditionExpression": "rev = :seen",
                "ExpressionAttributeValues": {":seen": {"N": str(seen_rev)}},
            }
        try:
            self._table.client.put_item(
                TableName=self._table.name, Item=item, ReturnValuesOnConditionCheckFailure="ALL_OLD", **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            found = cast("Item | None", error.response.get("Item"))
            # The SDK repeats a put whose reply was lost, and the repeat then meets what the first one wrote.
            if found and found["write"] == item["write"]:
                return None
            return _Overtaken(found or None)
        return None

    def _item(self, key: Key, row: R, now: datetime) -> dict[str, Any]:
        body = row.model_dump_json()
        size = len(body.encode()) + len(key.pk.encode()) + _ATTRIBUTES_BYTES
        if size > _ITEM_BYTES:
            raise TooLarge(f"{key.pk} would take {size} bytes; an item holds {_ITEM_BYTES}: keep its document in S3")
        item = key.item() | {
            "v": {"N": str(self._kind.schema)},
            "rev": {"N": str(row.rev)},
            "state": {"S": row.state.value},
            "write": {"S": uuid4().hex},
            "body": {"S": body},
        }
        if not row.active:
            item["expires_at"] = {"N": str(int((now + MEMORY).timestamp()))}
        elif self._kind.since is not None:
            item["active_kind"] = {"S": self._kind.name}
            item["active_since"] = {"S": utc_text(self._kind.since(row))}
        if self._kind.found_by is not None:
            item |= self._kind.found_by(row)
        return item

    def _key(self, key: str) -> Key:
        return Key(f"{self._kind.name}#{key}", "row")

    def _row_or_newer(self, item: Item | None) -> R | NewerSchema | None:
        try:
            return self._row(item)
        except NewerSchema as error:
            return error

    def _row(self, item: Item | None) -> R | None:
        """Raises NewerSchema for a row that a newer release wrote and that nothing stands for."""
        if item is None:
            return None
        try:
            check_schema(int(item["v"]["N"]) if "v" in item else 1, self._kind.schema, item["pk"]["S"])
        except NewerSchema:
            if self._kind.stand_in is None:
                raise
            return self._kind.stand_in(item)
        return cast("R", self._kind.model.model_validate_json(item["body"]["S"]))


def finished(outcomes: Sequence[T | Exception]) -> list[T]:
    """The decisions, or the rows. Raises the first error where everything failed, and Unfinished where some did."""
    decisions = [each for each in outcomes if not isinstance(each, Exception)]
    errors = [each for each in outcomes if isinstance(each, Exception)]
    if not errors:
        return decisions
    raise Unfinished(outcomes) if decisions else errors[0]


@dataclass(frozen=True, slots=True)
class _Overtaken:
    """The guess was wrong: this is what stands there."""

    item: Item | None
