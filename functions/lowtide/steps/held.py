"""What a hold means for a batch that has begun: it goes on, and nothing of it is rescued that the hold covers."""

from __future__ import annotations

from lowtide.core.batches import BatchRow
from lowtide.core.holds import InForce, Scope
from lowtide.ports import System


def scopes_over(system: System, row: BatchRow) -> tuple[Scope, ...]:
    """The holds in force that cover tasks of this batch, or would if it had any of their tenant."""
    return InForce.of(system.holds.active()).over(row.lot.model)


def without_held(system: System, row: BatchRow) -> BatchRow | None:
    """The batch as its rescue is to see it: due when the first of its parts is that no hold covers. None where holds
    cover them all. Reads the parts' rows where there is a hold."""
    in_force = InForce(frozenset(scopes_over(system, row)))
    if not in_force.scopes:
        return row
    parts = [part for part in system.parts.get(row.part_ids) if part is not None and part.batch_id == row.batch_id]
    due = [part.tightest_deadline for part in parts if not in_force.holds(part)]
    return row.model_copy(update={"tightest_deadline": min(due)}) if due else None
