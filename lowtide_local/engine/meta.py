"""What a local command has to remember beside its work: a fingerprint, a cursor."""

from __future__ import annotations

from collections.abc import Iterator

from .database import Database


class Meta:
    """Durable names and texts. A ``set`` inside a transaction belongs to it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> str | None:
        found = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def set(self, name: str, value: str) -> None:
        with self._database.transaction():
            self._database.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def scan(self, prefix: str) -> Iterator[str]:
        """The texts of all names that begin with ``prefix``, in the order of the names."""
        found = self._database.execute(
            "SELECT value FROM meta WHERE substr(name, 1, ?) = ? ORDER BY name", (len(prefix), prefix)
        )
        for (value,) in found.fetchall():
            yield str(value)
