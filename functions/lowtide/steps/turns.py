"""What a scheduled function does in one turn: the assembler drains, rescues, seals and submits; the poller collects and
sweeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from lowtide.core.batches import BatchRow, BatchState
from lowtide.core.open_batches import places_left, takes_a_place
from lowtide.ports import System

from .apart import apart
from .collect import collect
from .drain import Drained, drain
from .preserve import preserve
from .rescue import rescue_parts, too_late
from .salvage import salvage
from .seal import seal
from .submit import submit
from .sweep import sweep_hourly
from .time_left import past, share

TO_SUBMIT = frozenset({BatchState.SEALED, BatchState.UPLOADING, BatchState.SUBMITTING})
TO_COLLECT = frozenset({BatchState.RUNNING, BatchState.COLLECTING, BatchState.CLEANING})

DRAIN_SHARE, RESCUE_SHARE, SEAL_SHARE = 1 / 2, 1 / 3, 1 / 2
"""Of the time that is left when the step begins; submission has the rest."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """Counts of one turn of the assembler."""

    drained: Drained
    sealed: int
    submitted: int


async def assemble(system: System, *, flush: bool = False, stop_at: datetime | None = None) -> Assembled:
    """``flush`` seals what is there without waiting for more; after ``stop_at`` nothing new is begun. Each step leaves
    time to those behind it: a queue that never ends must not keep what is sealed from its provider.

    Each step is taken whatever became of the one before: one broken part must not keep every batch from its provider.
    Raises what went wrong at the end.
    """
    failed: list[Exception] = []
    drained, sealed, submitted = Drained(), 0, 0
    with apart(system, failed, "assembler_step_failed", step="drain"):
        drained = drain(system, stop_at=share(system, stop_at, DRAIN_SHARE))
        failed += drained.errors
    with apart(system, failed, "assembler_step_failed", step="rescue"):
        failed += rescue_parts(system, stop_at=share(system, stop_at, RESCUE_SHARE))
    with apart(system, failed, "assembler_step_failed", step="seal"):
        sealed = len(seal(system, flush=flush, stop_at=share(system, stop_at, SEAL_SHARE)))
    with apart(system, failed, "assembler_step_failed", step="submit"):
        submitted = await submit_due(system, stop_at=stop_at)
    with apart(system, failed, "assembler_step_failed", step="preserve"):
        preserve(system, stop_at=stop_at)
    if failed:
        raise ExceptionGroup(f"{len(failed)} steps of the assembler failed", failed)
    return Assembled(drained, sealed, submitted)


async def submit_due(system: System, *, stop_at: datetime | None = None) -> int:
    """How many batches began to run. No more are at the provider than the cap says, however many waited together."""
    active = system.batches.active()
    places = places_left(active, system.routes.batching.max_open_batches)

    async def submit_if_there_is_a_place(system: System, row: BatchRow) -> BatchRow:
        nonlocal places
        if places <= 0 and row.state is BatchState.SEALED and not (row.called_off or too_late(system, row)):
            return row
        after = await submit(system, row)
        places -= takes_a_place(row, after)
        return after

    after = await _each(system, active, TO_SUBMIT, submit_if_there_is_a_place, stop_at)
    return sum(row.state is BatchState.RUNNING for row in after)


async def collect_due(
    system: System, active: Sequence[BatchRow] | None = None, *, stop_at: datetime | None = None
) -> int:
    """How many batches are done that were not. ``active``: those there are, where somebody has just asked."""
    active = system.batches.active() if active is None else active
    after = await _each(system, active, TO_COLLECT, partial(collect, stop_at=stop_at), stop_at)
    return sum(row.state is BatchState.DONE for row in after)


async def sweep_due(system: System, *, stop_at: datetime | None = None) -> None:
    """After what pays for itself; past ``stop_at`` the next turn does it. What is stranded each time, and what lies at
    the provider at most once an hour."""
    if past(system, stop_at):
        return
    failed: list[Exception] = []
    with apart(system, failed, "sweep_failed"):
        await sweep_hourly(system)
    # Last, because a function died of what is stranded.
    with apart(system, failed, "salvage_failed"):
        await salvage(system)
    if failed:
        raise ExceptionGroup("a sweep failed", failed)


async def _each(
    system: System,
    rows: Sequence[BatchRow],
    states: frozenset[BatchState],
    step: Callable[[System, BatchRow], Awaitable[BatchRow]],
    stop_at: datetime | None,
) -> list[BatchRow]:
    """One batch after the other. One that fails does not keep the others waiting; the turn fails after them all."""
    after: list[BatchRow] = []
    errors: list[Exception] = []
    for row in rows:
        if past(system, stop_at):
            break
        if row.state in states:
            with apart(system, errors, "batch_step_failed", batch_id=row.batch_id, state=row.state.value):
                after.append(await step(system, row))
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {len(after) + len(errors)} batches failed their step", errors)
    return after
