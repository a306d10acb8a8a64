"""Dead tasks by their index: it proposes, the rows decide."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Any

from lowtide.core.dead import DeadFilter
from lowtide.core.model import utc_text
from lowtide.core.task_rows import TaskRow

from .dead_index import INDEX, indexed, shards
from .rows import TASKS, DynamoRows
from .table import Item, Table

_READ_AT_ONCE = 100
"""Rows in memory at a time."""


class DynamoDeadTasks:
    """A ports.DeadTasks. A query per shard of the index, filtered there, then one consistent read a row."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = DynamoRows(table, TASKS)

    def find(self, wanted: DeadFilter) -> Iterator[TaskRow]:
        listed = merge(
            *(self._shard(shard, wanted) for shard in shards()), key=lambda item: item["dead_since"]["S"], reverse=True
        )
        keys = (item["pk"]["S"].removeprefix(f"{TASKS.name}#") for item in listed)
        while some := list(islice(keys, _READ_AT_ONCE)):
            for row in self._rows.get(some):
                if row is not None and wanted.takes(row):
                    yield row

    def _shard(self, shard: str, wanted: DeadFilter) -> Iterator[Item]:
        values: dict[str, Any] = {
            ":shard": {"S": shard},
            # As text, before and after every moment.
            ":since": {"S": utc_text(wanted.since) if wanted.since else "0"},
            ":until": {"S": utc_text(wanted.until) if wanted.until else "9999~"},
        }
        named = {"dead_tenant": wanted.tenant, "dead_type": wanted.type, "dead_code": wanted.code}
        asked = {name: text for name, text in named.items() if text is not None}
        filters: dict[str, Any] = {}
        if asked:
            filters["FilterExpression"] = " AND ".join(f"{name} = :{name}" for name in asked)
            values |= {f":{name}": {"S": indexed(text)} for name, text in asked.items()}
        return self._table.query(
            IndexName=INDEX,
            KeyConditionExpression="dead_shard = :shard AND dead_since BETWEEN :since AND :until",
            ExpressionAttributeValues=values,
            ScanIndexForward=False,
            **filters,
        )
