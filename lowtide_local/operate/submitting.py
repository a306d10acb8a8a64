"""Submitting: the lines of a file become packs on the intake, each line checked first as the intake checks it.

A line that the deployment would refuse is not sent. Nothing is held of what was sent, so that the file may have any
size. Sending a line again is harmless: its ``task_id`` makes the second copy a duplicate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lowtide.adapters.aws.queue import sendable
from lowtide.core.acceptance import accept
from lowtide.core.errors import Refused
from lowtide.core.jsontext import decode
from lowtide.core.message import MESSAGE_BYTES
from lowtide.core.packs import PACK_BYTES
from lowtide.core.refusals import RefusalCode
from lowtide.ports import Outgoing, System
from lowtide_local.run.reading import Line, refused_line

PACK_TASKS = 500
"""Tasks in one message: the intake has ten seconds for it, and judges it again whole where it is delivered again."""
ROUND_BYTES = 8_000_000
"""Sent together, as some eight calls at once. This much is in memory, and may be sent twice after an interruption."""

_HEAD, _TAIL = '{"tasks":[', "]}"


@dataclass(slots=True)
class _Pack:
    """``bytes`` counts what SQS counts."""

    lines: list[str] = field(default_factory=list)
    tenants: set[str] = field(default_factory=set)
    bytes: int = len(_HEAD) + len(_TAIL)

    def fits(self, width: int) -> bool:
        return len(self.lines) < PACK_TASKS and self.bytes + width + 1 <= PACK_BYTES

    def message(self) -> Outgoing:
        """A task alone goes without the pack's braces, so that it may have all the bytes that SQS takes."""
        [first, *others] = self.lines
        body = _HEAD + ",".join(self.lines) + _TAIL if others else first
        # SQS shares a queue fairly between groups. A pack of several tenants is in the group of none of them.
        return Outgoing(body, group=self.tenants.pop()) if len(self.tenants) == 1 else Outgoing(body)


class Submission:
    """One pass over a file's lines.

    ``through``: every task up to this line was sent, and every refusal up to it was told. Later lines may have been
    sent as well, where ``send`` raised.
    """

    def __init__(self, system: System, tell: Callable[[dict[str, Any]], None]) -> None:
        """``tell`` hears of each line that is refused, as ``refused.jsonl`` has it."""
        self.sent = 0
        self.refused = 0
        self.messages = 0
        self.through = 0
        self._system = system
        self._tell = tell
        self._pack = _Pack()
        self._round: list[Outgoing] = []
        self._bytes = 0
        self._tasks = 0

    def send(self, lines: Iterable[Line]) -> None:
        """Send them all. Raises what the intake raises; sending the same lines again is harmless."""
        number = 0
        for line in lines:
            if line.raw != b"":
                try:
                    text, tenant = self._checked(line)
                except Refused as refusal:
                    self.refused += 1
                    self._tell(refused_line(line.number, refusal))
                else:
                    self._add(text, tenant, number)
            number = line.number
        self._close()
        self._flush(number)

    def _checked(self, line: Line) -> tuple[str, str]:
        """(text, tenant). Raises Refused."""
        system = self._system
        task = accept(decode(line.content), origin=str(line.number), sent_at=system.clock.now(), routes=system.routes)
        text = sendable(line.content.decode())
        if (size := len(text.encode())) > MESSAGE_BYTES:
            problem = f"the task has {size} bytes: SQS takes {MESSAGE_BYTES}; shorten it, or answer it by lowtide run"
            raise Refused(RefusalCode.TOO_LARGE, problem, task_id=task.task_id)
        return text, task.tenant

    def _add(self, text: str, tenant: str, before: int) -> None:
        """``before``: the line before this one."""
        width = len(text.encode())
        if self._pack.lines and not self._pack.fits(width):
            self._close()
            if self._bytes >= ROUND_BYTES:
                self._flush(before)
        self._pack.lines.append(text)
        self._pack.tenants.add(tenant)
        self._pack.bytes += width + 1

    def _close(self) -> None:
        if self._pack.lines:
            self._round.append(self._pack.message())
            self._tasks += len(self._pack.lines)
            self._bytes += self._pack.bytes
            self._pack = _Pack()

    def _flush(self, through: int) -> None:
        self._system.intake.send(self._round)
        self.sent += self._tasks
        self.messages += len(self._round)
        self.through = through
        self._round, self._bytes, self._tasks = [], 0, 0
