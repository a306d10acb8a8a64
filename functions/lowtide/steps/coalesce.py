"""Many small writes, one call: what arrives while a write is under way goes together in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar, cast

from lowtide.core.errors import Unfinished
from lowtide.core.tasks import Decision, TaskEvent, TaskRow
from lowtide.core.trace import untraced
from lowtide.ports import Change, Offload

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Coalescer(Generic[Item, Outcome]):
    """Awaiting ``self(item)`` gives the outcome of a many-at-a-time ``work`` for this one item. An item that fails in
    ``work`` fails alone, where ``work`` raises Unfinished.

    SQLite commits once for all that settled meanwhile; AWS gets a list that it can write concurrently.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Outcome]], offload: Offload) -> None:
        self._work = work
        self._offload = offload
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(), context=untraced())
        return await future

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                items = [item for item, _ in batch]
                outcomes: Sequence[Outcome | BaseException]
                try:
                    outcomes = await self._offload(partial(self._work, items))
                except Unfinished as error:
                    outcomes = cast("Sequence[Outcome | BaseException]", error.outcomes)
                except BaseException as error:  # noqa: BLE001 - each caller must hear of it, whatever it is
                    outcomes = [error] * len(batch)
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    if future.done():
                        continue
                    if isinstance(outcome, BaseException):
                        future.set_exception(outcome)
                    else:
                        future.set_result(outcome)
        finally:
            self._flusher = None


TaskRows = Coalescer[Change[TaskRow, TaskEvent], Decision]
"""Applies one change to a task's row, together with those that are asked for meanwhile."""
