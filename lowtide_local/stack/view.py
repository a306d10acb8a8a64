"""What a report reads of a deployment, under the names that the embedded engine has for it.

It scans the whole table, which nobody may on AWS: for moto only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import boto3

from lowtide.core.batches import BatchRow
from lowtide.core.tasks import TaskRow
from lowtide.ports import Ledger

R = TypeVar("R", TaskRow, BatchRow)


class ScannedRows(Generic[R]):
    """Rows of one kind, oldest first."""

    def __init__(self, rows: Sequence[R]) -> None:
        self._rows: Sequence[R] = rows

    def scan(self) -> Iterator[R]:
        return iter(self._rows)

    def counts(self) -> dict[str, int]:
        """How many rows are in each state that any is in."""
        return dict(Counter(row.state.value for row in self._rows))


class NoMeta:
    """A deployment keeps no notes beside its rows; what it refused is on the dead-letter queue."""

    def scan(self, prefix: str) -> Iterator[str]:
        del prefix
        return iter(())


class StackView:
    """Looks like the embedded engine to those who only read: the rows as they were when it was made."""

    def __init__(self, table: str, ledger: Ledger) -> None:
        pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=table)
        items = [item for page in pages for item in page["Items"]]
        tasks = [TaskRow.model_validate_json(body) for body in _bodies(items, "task#")]
        batches = [BatchRow.model_validate_json(body) for body in _bodies(items, "batch#")]
        self.tasks = ScannedRows(sorted(tasks, key=lambda row: (row.accepted_at, row.task_id)))
        self.batches = ScannedRows(sorted(batches, key=lambda row: (row.created_at, row.batch_id)))
        self.ledger = ledger
        self.meta = NoMeta()


def _bodies(items: Sequence[Any], prefix: str) -> Iterator[str]:
    return (item["body"]["S"] for item in items if item["pk"]["S"].startswith(prefix))
