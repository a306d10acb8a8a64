"""What a hold means for a batch that has begun: it goes on, and nothing of it is rescued that the hold covers."""

from __future__ import annotations

from hashlib import sha256

from pydantic import TypeAdapter

from lowtide.core.batches import BatchRow
from lowtide.core.holds import InForce, Scope
from lowtide.ports import System


def scopes_over(system: System, row: BatchRow) -> tuple[Scope, ...]:
    """The holds in force that cover tasks of this batch, or would if it had any of their tenant."""
    return InForce.of(system.holds.active()).over(row.lot.model)


_SCOPES: TypeAdapter[tuple[Scope, ...]] = TypeAdapter(tuple[Scope, ...])


def write_held(system: System, row: BatchRow) -> str | None:
    """The key of an object with the holds in force, for a batch that is to be collected by them; None where there are
    none. Not in the row: there may be thousands, and a row holds 400 KB. Named by its content, so that nobody who
    comes too late replaces the one that the row names."""
    scopes = scopes_over(system, row)
    if not scopes:
        return None
    content = _SCOPES.dump_json(scopes)
    key = f"batches/{row.batch_id}-held-{sha256(content).hexdigest()[:12]}.json"
    system.objects.put(key, content)
    return key


def read_held(system: System, row: BatchRow) -> InForce:
    """The holds that were in force when collecting began."""
    if row.held_key is None:
        return InForce(frozenset())
    return InForce(frozenset(_SCOPES.validate_json(system.objects.get(row.held_key))))


def without_held(system: System, row: BatchRow) -> BatchRow | None:
    """The batch as its rescue is to see it: due when the first of its parts is that no hold covers. None where holds
    cover them all. Reads the parts' rows where there is a hold."""
    in_force = InForce(frozenset(scopes_over(system, row)))
    if not in_force.scopes:
        return row
    parts = [part for part in system.parts.get(row.part_ids) if part is not None and part.batch_id == row.batch_id]
    due = [part.tightest_deadline for part in parts if not in_force.holds(part)]
    return row.model_copy(update={"tightest_deadline": min(due)}) if due else None
