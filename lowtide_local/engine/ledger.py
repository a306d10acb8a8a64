"""The ledger in SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from lowtide.core.receipts import Receipt

from .database import Database


class SqliteLedger:
    """A ports.Ledger. A list of entries is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, entries: Sequence[tuple[str, Receipt]]) -> None:
        with self._database.transaction():
            self._database.execute_many(
                "INSERT OR REPLACE INTO ledger (name, body) VALUES (?, ?)",
                [(name, receipt.model_dump_json()) for name, receipt in entries],
            )

    def add(self, entries: Sequence[tuple[str, Receipt]]) -> frozenset[str]:
        names = [name for name, _ in entries]
        with self._database.transaction():
            new = frozenset(names) - self.standing(names)
            self.put(entries)
        return new

    def standing(self, names: Sequence[str]) -> frozenset[str]:
        found = (self._database.execute("SELECT 1 FROM ledger WHERE name = ?", (name,)).fetchone() for name in names)
        return frozenset(name for name, row in zip(names, found, strict=True) if row is not None)

    def total(self) -> Receipt:
        found = self._database.execute("SELECT body FROM ledger ORDER BY name").fetchall()
        return Receipt.sum(Receipt.model_validate_json(body) for (body,) in found)
