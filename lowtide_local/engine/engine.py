"""The embedded engine: every storage port over one directory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from lowtide.core.tiers import Tier
from lowtide.ports import Clock
from lowtide_local.disk import claim_directory

from . import voiding
from .database import Database, Durability
from .dead_tasks import SqliteDeadTasks
from .ledger import SqliteLedger
from .levels import SqliteLevels
from .meta import Meta
from .objects import FileObjects
from .queue import SqliteQueue
from .rows import batches_rows, holds_rows, paces_rows, parts_rows, tasks_rows

T = TypeVar("T")


async def in_place(work: Callable[[], T]) -> T:
    """A ports.Offload: SQLite answers in microseconds, and a thread would cost more than it saves."""
    return work()


class Engine:
    """One process's hold on a directory: ``state.db`` (with its lock) and ``objects/``."""

    def __init__(self, directory: Path, clock: Clock, durability: Durability) -> None:
        claim_directory(directory)
        self._clock = clock
        self._database = Database(directory / "state.db", durability)
        try:
            self.objects = FileObjects(directory / "objects", durability)
        except BaseException:
            self._database.close()
            raise
        self.tasks = tasks_rows(self._database)
        self.parts = parts_rows(self._database)
        self.batches = batches_rows(self._database)
        self.paces = paces_rows(self._database)
        self.holds = holds_rows(self._database)
        self.dead_tasks = SqliteDeadTasks(self._database)
        self.ledger = SqliteLedger(self._database)
        self.meta = Meta(self._database)

    @classmethod
    def open(cls, directory: Path, clock: Clock, durability: Durability = Durability.FULL) -> Self:
        """Makes what is not there yet. Raises DirectoryInUse, DirectoryUnusable, NotOurs or DiskFault."""
        return cls(directory, clock, durability)

    def queue(self, name: str) -> SqliteQueue:
        return SqliteQueue(self._database, name, self._clock)

    def levels(self) -> SqliteLevels:
        return SqliteLevels({tier: self.queue(tier.value) for tier in Tier}, self._clock)

    def transaction(self) -> AbstractContextManager[None]:
        """Rows, messages, ledger and meta written inside are committed together. Objects are not: put them before."""
        return self._database.transaction()

    def void_leases(self) -> None:
        """To be called once on starting, before any step."""
        voiding.void_leases(self._database, self._clock.now())

    def close(self) -> None:
        """Idempotent. What is not committed is rolled back."""
        self._database.close()

    def kill(self) -> None:
        """As if the process had died here: nothing is committed or cleaned, and the directory is free again."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
