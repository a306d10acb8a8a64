"""The tasks that a file names: by an id on each line, or by their own lines, as ``submit`` takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lowtide.core.acceptance import accept
from lowtide.core.errors import Refused
from lowtide.core.jsontext import decode
from lowtide.core.message import TENANT
from lowtide.core.refusals import RefusalCode
from lowtide.core.task import task_key
from lowtide.ports import System
from lowtide_local.cli.operate import DEFAULT_TENANT
from lowtide_local.cli.stop import usage
from lowtide_local.run.reading import Line


class NamedTasks:
    """``tenant``: whose the ids are; of tasks that name another tenant none is taken. None takes any, and an id is the
    default tenant's. ``refused`` lines are no tasks of this deployment, so that they have no record."""

    def __init__(self, system: System, file: str, tenant: str | None) -> None:
        self.refused = 0
        self._system = system
        self._file = file
        self._tenant = tenant

    def keys(self, lines: Iterable[Line]) -> Iterator[str]:
        """Raises Stop for a line that is neither an id nor a task, and where there is no line."""
        empty = True
        for line in lines:
            if line.raw == b"":
                continue
            empty = False
            key = self._of_task(line) if line.raw is None or line.raw.startswith(b"{") else self._of_id(line)
            if key is not None:
                yield key
        if empty:
            raise usage(f"{self._file} is empty: give a task id a line, or the tasks themselves")

    def _of_id(self, line: Line) -> str:
        name = line.content.decode("utf-8", "replace")
        if TENANT.fullmatch(name) is None:
            raise usage(
                f"{self._file}: line {line.number} is no task id; give a task id a line, or the tasks themselves"
            )
        return task_key(self._tenant or DEFAULT_TENANT, name)

    def _of_task(self, line: Line) -> str | None:
        try:
            tenant, name = self._named(line)
        except Refused:
            self.refused += 1
            return None
        return task_key(tenant, name) if self._tenant in (None, tenant) else None

    def _named(self, line: Line) -> tuple[str, str]:
        """(tenant, task id). Raises Refused as ``submit`` does, but for a deadline: it was ahead at that time."""
        raw: Any = decode(line.content)
        try:
            task = accept(raw, origin="", sent_at=self._system.clock.now(), routes=self._system.routes)
        except Refused as refusal:
            if refusal.code == RefusalCode.INVALID_DEADLINE and refusal.task_id is not None:
                return raw.get("tenant") or DEFAULT_TENANT, refusal.task_id
            raise
        return task.tenant, task.task_id
