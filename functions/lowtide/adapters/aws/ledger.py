"""The ledger on DynamoDB: entries that replace themselves, summed by reading them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4
from zlib import crc32

from lowtide.core.errors import Unfinished
from lowtide.core.receipts import Receipt

from .table import Key, Table
from .threads import concurrently

PARTITIONS = "ledger#"
"""How the keys of its partitions begin."""

_SHARDS = 16
"""Partitions that entries spread over: 16,000 writes a second, and as many queries for a total."""


class DynamoLedger:
    """A ports.Ledger. An entry's shard comes from its name, so that a repeated put meets the first."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def put(self, entries: Sequence[tuple[str, Receipt]]) -> None:
        self._table.write([_key(name).item() | {"body": {"S": receipt.model_dump_json()}} for name, receipt in entries])

    def add(self, entries: Sequence[tuple[str, Receipt]]) -> frozenset[str]:
        """One put each: a batch write does not say what it replaces. After the first that fails none is begun."""
        named = dict(entries)
        failed: list[Exception] = []

        def add(entry: tuple[str, Receipt]) -> bool | Exception:
            if failed:
                return failed[0]
            try:
                return self._add(entry)
            except Exception as error:  # noqa: BLE001 - what was added before has to be told
                failed.append(error)
                return error

        outcomes = concurrently(add, list(named.items()), self._table.threads)
        if not failed:
            return frozenset(name for name, is_new in zip(named, outcomes, strict=True) if is_new)
        if any(isinstance(outcome, bool) for outcome in outcomes):
            raise Unfinished(outcomes)
        raise failed[0]

    def standing(self, names: Sequence[str]) -> frozenset[str]:
        found = self._table.read([_key(name) for name in names])
        return frozenset(name for name in names if _key(name) in found)

    def total(self) -> Receipt:
        return Receipt.sum(concurrently(self._shard, range(_SHARDS), self._table.threads))

    def _add(self, entry: tuple[str, Receipt]) -> bool:
        name, receipt = entry
        written = {"body": {"S": receipt.model_dump_json()}, "write": {"S": uuid4().hex}}
        replaced = self._table.replace(_key(name).item() | written)
        # The SDK repeats a put whose reply was lost, and the repeat replaces what the first one wrote.
        return replaced is None or replaced.get("write") == written["write"]

    def _shard(self, shard: int) -> Receipt:
        entries = self._table.query(
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": _partition(shard)}},
            ConsistentRead=True,
        )
        return Receipt.sum(Receipt.model_validate_json(entry["body"]["S"]) for entry in entries)


def _key(name: str) -> Key:
    return Key(_partition(crc32(name.encode()) % _SHARDS), name)


def _partition(shard: int) -> str:
    return f"{PARTITIONS}{shard:02}"
