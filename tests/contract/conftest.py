"""Every storage port, every adapter: one set of tests.

A factory is called with a fresh directory and gives a context manager that yields a ``Store``. The embedded engine's is
here; the AWS adapters' are in ``aws.py`` beside this file, in ``FACTORIES``: name → factory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from lowtide.ports import Batches, DeadTasks, Holds, Ledger, Objects, Paces, Parts, Queue, Tasks
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from tests.contract import aws


class Store(Protocol):
    """One empty store, on a clock that stands still until it is advanced."""

    @property
    def objects(self) -> Objects: ...

    @property
    def tasks(self) -> Tasks: ...

    @property
    def parts(self) -> Parts: ...

    @property
    def batches(self) -> Batches: ...

    @property
    def paces(self) -> Paces: ...

    @property
    def holds(self) -> Holds: ...

    @property
    def dead_tasks(self) -> DeadTasks: ...

    @property
    def ledger(self) -> Ledger: ...

    def queue(self, name: str) -> Queue: ...

    def advance(self, seconds: float) -> None: ...


Factory = Callable[[Path], AbstractContextManager[Store]]


class StillClock:
    """A ports.Clock that moves when it is told to."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@dataclass
class Embedded:
    engine: Engine
    clock: StillClock

    def __post_init__(self) -> None:
        self.queue = self.engine.queue
        self.objects = self.engine.objects
        self.tasks = self.engine.tasks
        self.parts = self.engine.parts
        self.batches = self.engine.batches
        self.paces = self.engine.paces
        self.holds = self.engine.holds
        self.dead_tasks = self.engine.dead_tasks
        self.ledger = self.engine.ledger
        self.advance = self.clock.advance


@contextmanager
def embedded(directory: Path) -> Iterator[Any]:
    clock = StillClock(datetime(2026, 3, 2, 10, tzinfo=UTC))
    with Engine.open(directory / "engine", clock, Durability.RELAXED) as engine:
        yield Embedded(engine, clock)


FACTORIES: dict[str, Factory] = {"embedded": embedded, **aws.FACTORIES}


@pytest.fixture(params=sorted(FACTORIES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with FACTORIES[request.param](tmp_path) as made:
        yield made
