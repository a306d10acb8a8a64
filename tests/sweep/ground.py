"""The embedded engine under the plays of one process: made once, swept clean between two of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Self

from lowtide.ports import Depth, Message, Outgoing
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.moments import to_ms
from lowtide_local.engine.objects import FileObjects
from lowtide_local.engine.queue import SqliteQueue
from tests.sweep.interleaving import Interleaver, SkewedClock

TABLES = ("messages", "ledger", "meta", "rows", "sqlite_sequence")
PARSED = 2_000
"""Rows of a kind that are kept as they were parsed."""
MEMORY = Path("/dev/shm")
"""Files in memory, where the machine has them: a play writes a few hundred small ones."""


@contextmanager
def grounds() -> Iterator[Path]:
    """A directory for the grounds of all processes, gone at the end."""
    home = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="lowtide-sweep-", dir=home) as directory:
        yield Path(directory)


class Ground:
    """A process may die on it at any call: what it committed is there, and no other thing is."""

    def __init__(self, home: Path) -> None:
        self._directory = home / str(os.getpid())
        self._directory.mkdir(exist_ok=True)
        # The steps' own temporary files go there too.
        self._temporary, tempfile.tempdir = tempfile.tempdir, str(self._directory)
        self.clock = TrueClock()
        self.engine = Engine.open(self._directory / "engine", self.clock, Durability.RELAXED)
        for rows in (self.engine.tasks, self.engine.parts, self.engine.batches, self.engine.paces):
            # Values do not change, and most rows are read again and again.
            rows._parse = lru_cache(PARSED)(rows._parse)

    def begin(self, interleaver: Interleaver, start: datetime) -> Engine:
        """Empty, at ``start``."""
        self.clock.clock = SkewedClock(interleaver, start)
        database = self.engine._database
        with database.transaction():
            for table in TABLES:
                database.execute(f"DELETE FROM {table}")
        shutil.rmtree(self._directory / "objects", ignore_errors=True)
        self.engine.objects = FileObjects(self._directory / "objects", Durability.RELAXED)
        return self.engine

    def close(self) -> None:
        self.engine.close()
        tempfile.tempdir = self._temporary

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TrueClock:
    """A ports.Clock: nobody's own, and so nobody's skew. Queues go by it."""

    clock: SkewedClock

    def now(self) -> datetime:
        return self.clock.now()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


class RepeatingQueue:
    """A ports.Queue that delivers so many messages once more than it should: while they are in hand, or after they
    were deleted."""

    def __init__(self, queue: SqliteQueue, dice: Random, repeats: int) -> None:
        self._queue, self._dice, self._repeats = queue, dice, repeats

    def send(self, messages: Sequence[Outgoing]) -> None:
        self._queue.send(messages)

    def receive(self, limit: int, *, visibility_s: int) -> list[Message]:
        messages = self._queue.receive(limit, visibility_s=visibility_s)
        for message in messages:
            if self._unlucky():
                self._comes_again(message, self._dice.choice((0, 5, 60)))
        return messages

    def delete(self, messages: Sequence[Message]) -> None:
        lost = [message for message in messages if self._unlucky()]
        for message in lost:
            self._comes_again(message, self._dice.choice((0, 60, 2_000)))
        self._queue.delete([message for message in messages if message not in lost])

    def defer(self, messages: Sequence[tuple[Message, int]]) -> None:
        self._queue.defer(messages)

    def depth(self) -> Depth:
        return self._queue.depth()

    def _unlucky(self) -> bool:
        if self._repeats and self._dice.random() < 0.3:
            self._repeats -= 1
            return True
        return False

    def _comes_again(self, message: Message, seconds: int) -> None:
        number = int(message.receipt.partition(".")[0])
        at = to_ms(self._queue._clock.now()) + 1_000 * seconds
        self._queue._database.execute("UPDATE messages SET visible_at = ? WHERE id = ?", (at, number))
