"""How a deployment stands: its queues, its parts, its batches; one batch. Reads only, and never a prompt."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lowtide.core.batches import BatchRow
from lowtide.core.holds import HoldRow, InForce
from lowtide.core.model import utc_text
from lowtide.core.parts import RESCUED, PartRow, PartState
from lowtide.ports import Depth, Queue

from .desk import Desk
from .yielding import Yielding, yielding

OURS = re.compile(r"b-[0-9a-f]{24}")
"""A batch's id as sealing makes it."""
PROVIDERS = "batch_"
"""How the provider's own ids of batches begin."""


@dataclass(slots=True)
class Count:
    """``rows`` parts or batches, with ``tasks`` in them."""

    rows: int = 0
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """``queues`` count messages, each of which may carry many tasks; ``parts`` (those in no batch yet) and ``batches``
    count tasks, by what they wait for or where they are."""

    queues: dict[str, Depth]
    parts: dict[str, Count]
    batches: dict[str, Count]
    holds: list[HoldRow]
    yielding: Yielding | None

    def document(self) -> dict[str, Any]:
        return {
            "queues": {
                name: {"visible": depth.visible, "in_flight": depth.in_flight, "delayed": depth.delayed}
                for name, depth in self.queues.items()
            },
            "parts": {name: {"parts": each.rows, "tasks": each.tasks} for name, each in self.parts.items()},
            "batches": {name: {"batches": each.rows, "tasks": each.tasks} for name, each in self.batches.items()},
            "holds": [
                {"scope": hold.scope.text, "reason": hold.reason, "since": utc_text(hold.placed_at)}
                for hold in self.holds
            ],
            "yielding": self.yielding.document() if self.yielding is not None else None,
        }


def overview(desk: Desk) -> Overview:
    system = desk.system
    queues: dict[str, Queue] = {"intake": system.intake}
    queues |= {tier.value: queue for tier, queue in system.tiers.items()}
    queues["dead letters"] = system.dead_letters
    queues["stranded"] = system.stranded
    parts: dict[str, Count] = defaultdict(Count)
    batches: dict[str, Count] = defaultdict(Count)
    now = system.clock.now()
    holds = system.holds.active()
    in_force = InForce.of(holds)
    in_open: dict[str, int] = defaultdict(int)
    for part in system.parts.active():
        if part.state is PartState.JOINED and part.batch_id != RESCUED:
            in_open[part.batch_id or ""] += part.tasks
        else:
            _count(parts[part_waits_for(part, in_force, now)], part.tasks)
    for batch in system.batches.active():
        # Until its file is written a batch's size is that of its parts.
        _count(batches[batch.state.value], batch.requests or in_open[batch.batch_id])
    depths = {name: queue.depth() for name, queue in queues.items()}
    made = dict(sorted(parts.items())), dict(sorted(batches.items()))
    return Overview(depths, *made, holds, yielding(system))


def _count(count: Count, tasks: int) -> None:
    count.rows += 1
    count.tasks += tasks


def part_waits_for(part: PartRow, in_force: InForce, now: datetime) -> str:
    if part.batch_id == RESCUED:
        return "on their way to a faster lane"
    if in_force.holds(part):
        return "held"
    if part.state is PartState.OPEN:
        return "being filled"
    return "ready" if part.ready(now) else "waiting for their retry"


def batch_named(desk: Desk, name: str) -> BatchRow | None:
    """By our id, or by the provider's while the batch is open."""
    if name.startswith(PROVIDERS):
        open_ones = desk.system.batches.active()
        return next((row for row in open_ones if row.provider_batch and row.provider_batch.id == name), None)
    [row] = desk.system.batches.get([name])
    return row


def names_a_batch(name: str, tenant: str | None) -> bool:
    """A name in the form of a batch's id is a batch's, unless a tenant says that it is a task's."""
    return tenant is None and (OURS.fullmatch(name) is not None or name.startswith(PROVIDERS))


def batch_document(row: BatchRow) -> dict[str, Any]:
    """What there is to know of a batch, as JSON. Counts of lines are known once it is collected."""
    provider = row.provider_batch
    return {
        "batch_id": row.batch_id,
        "provider_batch_id": provider.id if provider else None,
        "provider_status": provider.status.value if provider else None,
        "state": row.state.value,
        "provider": row.lot.provider,
        "model": row.lot.model,
        "endpoint": row.lot.endpoint.value,
        "requests": row.requests,
        "created_at": utc_text(row.created_at),
        "submitted_at": moment_text(row.submitted_at),
        "tightest_deadline": utc_text(row.tightest_deadline),
        "not_before": moment_text(row.not_before),
        "submission": row.submission,
        "setbacks": row.setbacks,
        "cancelled_with": row.stop.value if row.stop else None,
        "tally": row.tally.model_dump(mode="json"),
    }


def moment_text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
