"""What was or may have been billed for tasks that were cancelled meanwhile: nobody gets it, the ledger counts it."""

from __future__ import annotations

from collections.abc import Sequence

from lowtide.core.receipts import Receipt
from lowtide.core.tasks import Decision, Verdict
from lowtide.ports import System

from .deliver import task_entry


def count_in_vain(system: System, decisions: Sequence[Decision]) -> None:
    """The receipts of those tasks anew, under the names that they have had since they were cancelled."""
    entries = []
    for decision in decisions:
        row = decision.row
        if decision.verdict is Verdict.IN_VAIN and row is not None and row.document is not None:
            entries.append((task_entry(row), Receipt.of(row.document.record, repaid=row.repaid)))
    if entries:
        system.ledger.put(entries)
