"""The sparse index of settled tasks, in the order in which they settled: which rows are in it, and how it is read.

The write that settles a task enters it, in the same item: no crash comes between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from typing import Any, NamedTuple

from lowtide.core.model import utc_text
from lowtide.core.task_rows import SETTLED, TaskRow

from .dead_index import shard_of, shards
from .table import Item, Table

INDEX = "settled"
_TASK = "task#"


class Entry(NamedTuple):
    """The key of a task that settled at ``at``, to the millisecond."""

    at: datetime
    key: str


def settled_attributes(row: TaskRow) -> dict[str, Any]:
    """Nothing for a task without a record, or whose record a redrive is about to replace."""
    if row.state not in SETTLED or row.settled_at is None:
        return {}
    return {"settled_shard": {"S": shard_of(row.key)}, "settled_at": {"S": utc_text(row.settled_at)}}


class SettledIndex:
    """A query per shard. DynamoDB's index lags behind the rows by a moment."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def since(self, moment: datetime | None) -> Iterator[Entry]:
        """Every task that settled at ``moment`` or later, the first to settle first; all that are remembered for
        None. Pages are read as they are needed."""
        listed = merge(*(self._shard(shard, moment) for shard in shards()), key=lambda item: item["settled_at"]["S"])
        for item in listed:
            yield Entry(datetime.fromisoformat(item["settled_at"]["S"]), item["pk"]["S"].removeprefix(_TASK))

    def _shard(self, shard: str, moment: datetime | None) -> Iterator[Item]:
        return self._table.query(
            IndexName=INDEX,
            KeyConditionExpression="settled_shard = :shard AND settled_at >= :since",
            # As text, before every moment.
            ExpressionAttributeValues={
                ":shard": {"S": shard},
                ":since": {"S": "0" if moment is None else utc_text(moment)},
            },
        )
