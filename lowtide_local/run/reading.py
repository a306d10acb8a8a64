r"""The lines of an input file: numbered from 1, split on ``\n`` only, never more in memory than a line may have."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lowtide.core.errors import Refused
from lowtide.core.refusals import RefusalCode
from lowtide_local.cli.stop import usage

from .formats import HEAD_BYTES, looks_like

LINE_BYTES = 50_000_000
"""The longest line that is read. A request with images may have 50 MB at OpenAI, more than at any other endpoint."""

BOM = b"\xef\xbb\xbf"
"""Some editors put it at the start of a UTF-8 file; it is no part of the first line."""

WRITTEN = ("results.jsonl", "dead.jsonl", "refused.jsonl", "receipt.json", "report.html")
"""What a run leaves in DIR, over anything of that name."""

STATE = ".lowtide"
"""The directory inside DIR that holds the run's durable state."""

DATABASE = "state.db"
"""The file in it that exists once the run has begun."""

_SKIP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """``raw`` is empty for a blank line and None for one that is too long; ``end`` is where the next one begins."""

    number: int
    raw: bytes | None
    end: int

    @property
    def content(self) -> bytes:
        """Raises Refused where the line is too long to be read."""
        if self.raw is None:
            raise Refused(
                RefusalCode.TOO_LARGE, f"the line has more than {LINE_BYTES} bytes: no endpoint takes such a request"
            )
        return self.raw


def lines(file: BinaryIO, *, offset: int = 0, number: int = 0) -> Iterator[Line]:
    """The lines after the ``number`` of them that end at ``offset``. Without an offset they are read from where the
    file stands, which may be a pipe."""
    if offset:
        file.seek(offset)
    while read := file.readline(LINE_BYTES + 1):
        number += 1
        offset += len(read)
        if len(read) > LINE_BYTES:
            while not read.endswith(b"\n") and (read := file.readline(_SKIP_BYTES)):
                offset += len(read)
            yield Line(number, None, offset)
            continue
        yield Line(number, (read.removeprefix(BOM) if number == 1 else read).strip(), offset)


def refused_line(number: int, refusal: Refused) -> dict[str, Any]:
    """A line that became no task, as ``refused.jsonl`` has it."""
    error = {"code": refusal.code, "message": refusal.message}
    return {"line": number, "task_id": refusal.task_id, "error": error}


def check_input(tasks: Path, out: Path) -> None:
    """Raises Stop for what is no readable file of tasks, is empty, or would be overwritten in ``out``. Only the
    beginning is read."""
    try:
        if not stat.S_ISREG(tasks.stat().st_mode):
            kind = "a directory" if tasks.is_dir() else "no regular file, and a run that goes on reads it again"
            raise usage(f"cannot read {tasks}: it is {kind}; give a file with one task per line")
        with tasks.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            empty = not any(line.raw != b"" for line in lines(file))
    except OSError as error:
        raise usage(f"cannot read {tasks}: {error.strerror or error}") from None
    if empty:
        raise usage(f"{tasks} is empty: give a file with one task per line")
    if (what := looks_like(head, whole=len(head) < HEAD_BYTES)) is not None:
        raise usage(f"{tasks} looks like {what}")
    if os.path.realpath(tasks) in [os.path.realpath(out / name) for name in WRITTEN]:
        raise usage(f"{tasks} would be overwritten by the run's own {tasks.name}; give another --out")
