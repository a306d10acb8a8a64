"""Redrive: dead tasks go round again, at an operator's word.

The row comes first: dead → queued in the next generation, on the condition that it is dead. Then the receipt of the
record that is replaced is taken out of the ledger, and last the task is sent. Until a claim meets it the row keeps the
old record, so that the same redrive can be finished by repeating it; after the claim it was sent, and there is nothing
to repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lowtide.core.errors import NewerSchema, NotFound, Refused
from lowtide.core.receipts import Receipt
from lowtide.core.records import ResultRecord
from lowtide.core.revivals import revive
from lowtide.core.task import AcceptedTask, task_key
from lowtide.core.tasks import Redrive, TaskEvent, TaskRow, TaskState, Verdict
from lowtide.ports import Change, System

from .carry import send_tasks
from .deliver import document_of, task_entry
from .newer import rows_or_newer


class RedriveOutcome(StrEnum):
    SENT = "sent"
    NOT_DEAD = "not_dead"
    """It never died, it is unknown, or a redrive has it on its way already."""
    GONE = "gone"
    """It died so long ago that its letter has been removed: send the task anew."""
    REFUSED = "refused"
    """The routes of today do not take it, or a newer release wrote its row."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one name. ``reason`` says why it was refused, and what to do about it."""

    outcome: RedriveOutcome
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A redrive that can be done. ``row`` and ``record`` are those of the life that ends, ``task`` begins the next."""

    row: TaskRow
    record: ResultRecord
    task: AcceptedTask


def redrive(system: System, names: Sequence[tuple[str, str]]) -> list[Redriven]:
    """Each (tenant, task_id), in the order of ``names``. Safe to repeat, and meant to be where it was cut off."""
    keys = list(dict.fromkeys(task_key(tenant, task_id) for tenant, task_id in names))
    outcomes: dict[str, Redriven] = {}
    plans: list[Plan] = []
    rows = rows_or_newer(system.tasks, keys)
    for key, row in zip(keys, rows, strict=True):
        planned = plan(system, row)
        if isinstance(planned, Plan):
            plans.append(planned)
        else:
            outcomes[key] = planned
    changes: list[Change[TaskRow, TaskEvent]] = [
        Change(each.row.key, Redrive(each.task, each.task.spent_usd), each.row) for each in plans
    ]
    decisions = system.tasks.apply(changes, system.clock.now())
    begun = [each for each, decision in zip(plans, decisions, strict=True) if decision.verdict is not Verdict.STALE]
    if begun:
        system.ledger.put([entry for each in begun for entry in _replaced(each)])
        send_tasks(system, [each.task for each in begun])
        system.metrics.count("redriven", len(begun))
    outcomes |= {each.row.key: Redriven(RedriveOutcome.NOT_DEAD) for each in plans}
    outcomes |= {each.row.key: Redriven(RedriveOutcome.SENT) for each in begun}
    return [outcomes[task_key(tenant, task_id)] for tenant, task_id in names]


def plan(system: System, row: TaskRow | NewerSchema | None) -> Plan | Redriven:
    """What a redrive of this row would do now; nothing is written."""
    if isinstance(row, NewerSchema):
        return Redriven(RedriveOutcome.REFUSED, str(row))
    if row is None or not (row.state is TaskState.DEAD or row.redriving):
        return Redriven(RedriveOutcome.NOT_DEAD)
    try:
        document = document_of(system, row)
    except NotFound:
        return Redriven(RedriveOutcome.GONE)
    if document.letter is None:
        raise AssertionError("a dead task has its letter")
    try:
        task = revive(row, document.letter.task, system.routes, system.clock.now())
    except Refused as refusal:
        return Redriven(RedriveOutcome.REFUSED, refusal.message)
    spent_usd = document.record.cost_usd or row.strikes.spent_usd
    # On the row for a call, on the task for a batch, which reads no rows for what its lines have cost before.
    before = {"spent_usd": spent_usd, "unpriced": row.strikes.unpriced}
    return Plan(row, document.record, task.model_copy(update=before))


def _replaced(plan: Plan) -> list[tuple[str, Receipt]]:
    """The receipt of the life that ends, and what takes it back. Both: who settled it may have died before counting it,
    or may yet count it again. The entries are the same whoever puts them, so that their order does not matter."""
    receipt = Receipt.of(plan.record, repaid=plan.row.repaid)
    ended = plan.row.model_copy(update={"generation": plan.task.generation - 1})
    return [(task_entry(ended), receipt), (f"redriven/{ended.key} {ended.generation}", -receipt)]
