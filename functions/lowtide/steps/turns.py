"""What a scheduled function does in one turn: the assembler drains, seals and submits; the poller collects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lowtide.core.batches import BatchState
from lowtide.ports import System

from .collect import collect
from .drain import Drained, drain
from .seal import seal
from .submit import submit

TO_SUBMIT = frozenset({BatchState.SEALED, BatchState.UPLOADING, BatchState.SUBMITTING})
TO_COLLECT = frozenset({BatchState.RUNNING, BatchState.COLLECTING, BatchState.CLEANING})


@dataclass(frozen=True, slots=True)
class Assembled:
    """Counts of one turn of the assembler."""

    drained: Drained
    sealed: int
    submitted: int


async def assemble(system: System, *, flush: bool = False, stop_at: datetime | None = None) -> Assembled:
    """``flush`` seals what is there without waiting for more; after ``stop_at`` nothing new is begun."""
    drained = drain(system, stop_at=stop_at)
    sealed = seal(system, flush=flush)
    return Assembled(drained, len(sealed), await submit_due(system, stop_at=stop_at))


async def submit_due(system: System, *, stop_at: datetime | None = None) -> int:
    """How many batches began to run."""
    running = 0
    for row in system.batches.active():
        if _past(system, stop_at):
            break
        if row.state in TO_SUBMIT:
            after = await submit(system, row)
            running += after.state is BatchState.RUNNING
    return running


async def collect_due(system: System, *, stop_at: datetime | None = None) -> int:
    """How many batches are done that were not."""
    done = 0
    for row in system.batches.active():
        if _past(system, stop_at):
            break
        if row.state in TO_COLLECT:
            after = await collect(system, row)
            done += after.state is BatchState.DONE
    return done


def _past(system: System, stop_at: datetime | None) -> bool:
    return stop_at is not None and system.clock.now() >= stop_at
