"""Where one task is: what it waits for, what happened to it and when, where its answer lies. Reads only, no prompt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from lowtide.core.batches import BatchRow, BatchState
from lowtide.core.holds import InForce
from lowtide.core.model import utc_text
from lowtide.core.parts import RESCUED, PartRow, PartState
from lowtide.core.task import task_key
from lowtide.core.task_rows import SETTLED, TaskRow, TaskState
from lowtide.steps.newer import known_rows

from .desk import Desk
from .looking import OURS, moment_text, part_waits_for


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A task's row, the part that has or had it, and the batch that took or lost it; as far as they are known."""

    row: TaskRow
    part: PartRow | None
    batch: BatchRow | None

    @classmethod
    def of(cls, desk: Desk, row: TaskRow) -> Whereabouts:
        part = batch = None
        if row.holder is not None and row.state is not TaskState.CALLING:
            [part] = known_rows(desk.system.parts, [row.holder])  # None where a call held it
        batch_id = row.rescued_from if part is None else part.batch_id
        if batch_id is not None and OURS.fullmatch(batch_id):
            [batch] = known_rows(desk.system.batches, [batch_id])
        return cls(row, part, batch)

    def timeline(self) -> list[tuple[datetime, str]]:
        """Only what rows remember: of several tries the first and the last failure, and the last claim."""
        row, part, batch = self.row, self.part, self.batch
        strikes = row.strikes
        told: list[tuple[datetime | None, str]] = [
            (row.accepted_at if row.state is not TaskState.TOMBSTONE else None, "accepted"),
            (row.claimed_at, "claimed for a batch" if part is not None else "claimed for a call"),
            (strikes.first_failed_at, "failed for the first time"),
            (strikes.last_failed_at if strikes.last_failed_at != strikes.first_failed_at else None, "failed again"),
        ]
        if part is not None and row.claimed_at is not None and part.created_at > row.claimed_at:
            told.append((part.created_at, f"put into part {part.part_id} for another try"))
        if batch is not None:
            provider = batch.provider_batch
            ended_at = None if provider is None else provider.ended_at
            if ended_at is not None and batch.submitted_at is not None:
                ended_at = max(ended_at, batch.submitted_at)  # the provider's clock counts whole seconds
            told += [
                (batch.created_at, f"in batch {batch.batch_id}"),
                (batch.submitted_at, "batch submitted" if provider is None else f"batch submitted as {provider.id}"),
                (batch.rescued_at, "batch cancelled for a deadline"),
                (ended_at, "batch ended" if provider is None else f"batch ended: {provider.status.value}"),
                (batch.collected_at, "batch collected"),
            ]
        told.append((row.settled_at, row.state.value if row.state in SETTLED else "died"))
        return sorted(((at, what) for at, what in told if at is not None), key=lambda each: each[0])

    def waits_for(self, desk: Desk) -> str | None:
        """In a person's words. None where the task has ended."""
        row, now = self.row, desk.system.clock.now()
        match row.state:
            case TaskState.ANSWERED | TaskState.DEAD | TaskState.CANCELLED:
                return None
            case TaskState.TOMBSTONE:
                return "a task with this id, which is cancelled when it comes"
            case TaskState.CANCELLING:
                return "its message to come by; then it gets its record as cancelled"
            case TaskState.CALLING if row.claimed_until is not None and row.claimed_until <= now:
                return "its message to come again: the process that called the provider has died"
            case TaskState.CALLING:
                return "the provider's answer to a call"
            case TaskState.QUEUED if row.not_before is not None and row.not_before > now:
                return f"its next try, not before {utc_text(row.not_before)}"
            case TaskState.QUEUED if row.redriving:
                return "a worker, after its redrive; where it stays so, give the redrive again"
            case TaskState.QUEUED if row.rescued_from is not None:
                return "a worker on a faster lane: a batch would have been late"
            case TaskState.QUEUED:
                return f"its turn on the queue of {row.tier.value}"
            case TaskState.STAGED:
                return self._staged(desk, now)
            case _:
                assert_never(row.state)

    def _staged(self, desk: Desk, now: datetime) -> str:
        part, batch = self.part, self.batch
        if part is None:
            return "its part, which this release cannot read"
        if part.state is not PartState.JOINED or batch is None:
            why = part_waits_for(part, InForce.of(desk.system.holds.active()), now)
            return f"a batch; its part is {why}" if part.batch_id != RESCUED else "a worker on a faster lane"
        match batch.state:
            case BatchState.OPEN | BatchState.SEALED | BatchState.UPLOADING | BatchState.SUBMITTING:
                later = batch.not_before is not None and batch.not_before > now
                when = f", not before {moment_text(batch.not_before)}" if later else ""
                return f"its batch to be submitted{when}"
            case BatchState.RUNNING:
                return "the provider to end its batch"
            case BatchState.COLLECTING | BatchState.CLEANING | BatchState.DONE:
                return "the results of its batch to be read"
            case _:
                assert_never(batch.state)

    def answer(self, desk: Desk) -> dict[str, Any] | None:
        """Where the record lies. None while there is none."""
        row = self.row
        if row.state not in SETTLED:
            return None
        if row.pointer is None:
            return {"in": "row", "table": desk.table, "key": f"task#{row.key}"}
        at = row.pointer
        return {"in": "s3", "bucket": desk.bucket, "key": at.key, "offset": at.offset, "length": at.length}


def task_row(desk: Desk, name: str, tenant: str) -> TaskRow | None:
    [row] = desk.system.tasks.get([task_key(tenant, name)])
    return row


def task_document(desk: Desk, row: TaskRow) -> dict[str, Any]:
    """What there is to know of a task, as JSON; neither the task itself nor its answer."""
    found = Whereabouts.of(desk, row)
    part, batch = found.part, found.batch
    return {
        "tenant": row.tenant,
        "task_id": row.task_id,
        "state": row.state.value,
        "waits_for": found.waits_for(desk),
        "redriven_and_not_taken_up": row.redriving,
        "tier": row.tier.value,
        "type": row.type,
        "model": row.model,
        "lane": row.lane.value if row.lane else None,
        "attempts": row.attempt,
        "generation": row.generation,
        "repaid": row.repaid,
        "accepted_at": utc_text(row.accepted_at),
        "deadline_at": utc_text(row.deadline_at),
        "claimed_at": moment_text(row.claimed_at),
        "claimed_until": moment_text(row.claimed_until),
        "not_before": moment_text(row.not_before),
        "settled_at": moment_text(row.settled_at),
        "error_code": row.error_code,
        "part_id": part.part_id if part else None,
        "batch_id": batch.batch_id if batch and part else None,
        "provider_batch_id": batch.provider_batch.id if batch and part and batch.provider_batch else None,
        "rescued_from": row.rescued_from,
        "answer": found.answer(desk),
        "timeline": [{"at": utc_text(at), "what": what} for at, what in found.timeline()],
    }
