"""Feed: the lines of a file become tasks on their tiers' queues, each exactly once, however often it is started again.

A chunk of lines is one transaction: rows, messages, refusals and the place in the file. So a line is judged once, in
the order of the file: the first of two tasks with one id is the task, the second a duplicate or a conflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from lowtide.core.acceptance import accept
from lowtide.core.errors import Refused
from lowtide.core.jsontext import decode
from lowtide.core.receipts import Receipt
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import Accept, TaskEvent, TaskRow, Verdict
from lowtide.ports import Change, System
from lowtide.steps.carry import send_tasks
from lowtide_local.engine.engine import Engine

from .reading import Line, lines, refused_line

CHUNK_LINES = 500
"""Lines in one transaction: large enough that commits cost little, small enough to start answering at once."""

CHUNK_BYTES = 8_000_000
"""Beyond it a chunk takes no further line: lines of megabytes are kept in memory one by one."""

_CURSOR = "feed/cursor"


class Feed:
    """``step`` feeds one chunk and says whether there is more."""

    def __init__(self, system: System, engine: Engine, path: Path) -> None:
        self._system = system
        self._engine = engine
        self._path = path
        self.refused = sum(1 for _ in refusals(engine))
        """Count of lines so far that became no task."""

    def step(self) -> bool:
        cursor = orjson.loads(self._engine.meta.get(_CURSOR) or '{"offset":0,"line":0}')
        chunk = self._read(cursor["offset"], cursor["line"])
        if not chunk:
            return False
        with self._engine.transaction():
            self._feed(chunk)
            after = {"offset": chunk[-1].end, "line": chunk[-1].number}
            self._engine.meta.set(_CURSOR, orjson.dumps(after).decode())
        return True

    def _read(self, offset: int, number: int) -> list[Line]:
        chunk: list[Line] = []
        with self._path.open("rb") as file:
            for line in lines(file, offset=offset, number=number):
                chunk.append(line)
                if len(chunk) == CHUNK_LINES or line.end - offset >= CHUNK_BYTES:
                    break
        return chunk

    def _feed(self, chunk: Sequence[Line]) -> None:
        tasks: list[AcceptedTask] = []
        refused: list[dict[str, Any]] = []
        for line in chunk:
            if line.raw == b"":
                continue
            try:
                tasks.append(self._accept(line))
            except Refused as refusal:
                refused.append(refused_line(line.number, refusal))
        now = self._system.clock.now()
        changes: list[Change[TaskRow, TaskEvent]] = [Change(task.key, Accept(task)) for task in tasks]
        accepted, duplicates = [], 0
        for task, decision in zip(tasks, self._system.tasks.apply(changes, now), strict=True):
            match decision.verdict:
                case Verdict.APPLIED:
                    accepted.append(task)
                case Verdict.CONFLICT:
                    refused.append(refused_line(int(task.origin), _conflict(task, decision.row)))
                case _:
                    duplicates += 1
        send_tasks(self._system, accepted)
        name = f"{chunk[0].number:09d}"
        refused.sort(key=lambda refusal: refusal["line"])
        self._engine.meta.set(f"refused/{name}", orjson.dumps(refused).decode())
        self._system.ledger.put([(f"feed/{name}", Receipt(refused=len(refused), duplicates=duplicates))])
        self.refused += len(refused)

    def _accept(self, line: Line) -> AcceptedTask:
        return accept(
            decode(line.content),
            origin=str(line.number),
            sent_at=self._system.clock.now(),
            routes=self._system.routes,
        )


def refusals(engine: Engine) -> Iterator[dict[str, Any]]:
    """Every line that became no task, in the order of the file."""
    for chunk in engine.meta.scan("refused/"):
        yield from orjson.loads(chunk)


def _conflict(task: AcceptedTask, row: TaskRow | None) -> Refused:
    first = "an earlier task" if row is None else f"the task of line {row.origin}"
    message = f"task_id {task.task_id!r} belongs to {first}, whose content differs; give this one an id of its own"
    return Refused("id_conflict", message, field="task_id", task_id=task.task_id)
