"""The one DynamoDB table, many items at a time. docs/table.md lists its keys and what each access costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lowtide.core.errors import LowtideError

from .backoff import tries
from .threads import concurrently

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = Mapping[str, Any]
"""Attributes in DynamoDB's own notation: ``{"pk": {"S": "…"}, "rev": {"N": "1"}}``."""

_READ_AT_ONCE = 100
"""Keys in one BatchGetItem (DynamoDB's limit)."""
_WRITE_AT_ONCE = 25
"""Items in one BatchWriteItem (DynamoDB's limit)."""
_TRIES = 8
"""Rounds for what a batch call leaves unprocessed: about two seconds in all, on top of the calls."""


class Key(NamedTuple):
    pk: str
    sk: str

    def item(self) -> dict[str, Any]:
        return {"pk": {"S": self.pk}, "sk": {"S": self.sk}}


class Table:
    def __init__(self, client: DynamoDBClient, name: str, *, threads: int = 16) -> None:
        self.client = client
        self.name = name
        self.threads = threads

    def read(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """The items that exist, by consistent reads."""
        distinct = list(dict.fromkeys(keys))
        slices = [distinct[at : at + _READ_AT_ONCE] for at in range(0, len(distinct), _READ_AT_ONCE)]
        found: dict[Key, Item] = {}
        for items in concurrently(self._read_slice, slices, self.threads):
            found.update({Key(item["pk"]["S"], item["sk"]["S"]): item for item in items})
        return found

    def write(self, items: Sequence[Item]) -> None:
        """Puts every item, replacing what is there. Of two with one key the last is put."""
        distinct = list({(item["pk"]["S"], item["sk"]["S"]): item for item in items}.values())
        slices = [distinct[at : at + _WRITE_AT_ONCE] for at in range(0, len(distinct), _WRITE_AT_ONCE)]
        concurrently(self._write_slice, slices, self.threads)

    def replace(self, item: Item) -> Item | None:
        """Puts one item; returns the one that it replaced."""
        answer = self.client.put_item(TableName=self.name, Item=dict(item), ReturnValues="ALL_OLD")
        return answer.get("Attributes")

    def query(self, **how: Any) -> Iterator[Item]:
        """Every item of every page of a Query."""
        for page in self.client.get_paginator("query").paginate(TableName=self.name, **how):
            yield from page["Items"]

    def _read_slice(self, keys: Sequence[Key]) -> list[Item]:
        asked: Any = {self.name: {"Keys": [key.item() for key in keys], "ConsistentRead": True}}
        found: list[Item] = []
        for _ in tries(_TRIES):
            answer = self.client.batch_get_item(RequestItems=asked)
            found.extend(answer["Responses"].get(self.name, []))
            asked = answer.get("UnprocessedKeys")
            if not asked:
                return found
        raise LowtideError(f"table {self.name} left reads unprocessed {_TRIES} times; it is throttled: come back later")

    def _write_slice(self, items: Sequence[Item]) -> None:
        asked: Any = {self.name: [{"PutRequest": {"Item": item}} for item in items]}
        for _ in tries(_TRIES):
            asked = self.client.batch_write_item(RequestItems=asked).get("UnprocessedItems")
            if not asked:
                return
        raise LowtideError(
            f"table {self.name} left writes unprocessed {_TRIES} times; it is throttled: come back later"
        )
