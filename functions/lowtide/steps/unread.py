"""Unread lines: lines of result files that settle nothing, kept as they came where an operator can look at them.

They may hold answers, so the log says only where a line stands and what is wrong with it.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, cast

import orjson

from lowtide.core.batches import BatchRow
from lowtide.core.result_lines import Unread
from lowtide.ports import System

from .spool import Spooled

SHOWN = 5
"""Lines whose places are logged; all of them are in the object."""


def unread_key(batch_id: str) -> str:
    """Return the key of the object with a batch's unread lines. Each of its lines is a JSON object: ``file``, ``line``
    (from 1), ``reason``, ``custom_id`` or null, and ``raw``, or ``raw_base64`` where the line is no UTF-8."""
    return f"raw/{batch_id}.jsonl"


class UnreadLines(Spooled):
    """Unread lines of one pass, on disk: a file that is not what it should be consists of them."""

    def __init__(self) -> None:
        super().__init__()
        self._places: list[str] = []
        self.count = 0

    def add(self, ref: str, unread: Unread) -> None:
        self.count += 1
        self._file.write(orjson.dumps(_entry(ref, unread), option=orjson.OPT_APPEND_NEWLINE))
        if self.count <= SHOWN:
            about = f" ({unread.custom_id})" if unread.custom_id is not None else ""
            self._places.append(f"{ref}, line {unread.line}{about}: {unread.reason}")

    def mark(self) -> tuple[int, int]:
        """Return a mark for ``back_to``."""
        return self.count, self._file.tell()

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget what was added since the mark."""
        self.count, end = mark
        self._file.seek(end)
        self._file.truncate()
        del self._places[self.count :]

    def keep(self, system: System, row: BatchRow) -> None:
        """Write the object, count and log; call it before the provider's files are deleted. Does nothing where every
        line was read."""
        if not self.count:
            return
        kept = unread_key(row.batch_id)
        self._file.seek(0)
        system.objects.put(kept, cast("Any", self._file))
        system.metrics.count("unknown_lines", self.count)
        system.metrics.log("unknown_lines", batch_id=row.batch_id, lines=self.count, kept=kept, places=self._places)


def _entry(ref: str, unread: Unread) -> dict[str, Any]:
    entry = {"file": ref, "line": unread.line, "reason": unread.reason, "custom_id": unread.custom_id}
    try:
        return entry | {"raw": unread.raw.decode("utf-8")}
    except UnicodeDecodeError:
        return entry | {"raw_base64": b64encode(unread.raw).decode("ascii")}
