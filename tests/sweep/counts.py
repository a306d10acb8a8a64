"""What the metrics should have counted, by the rows and the ledger, and what they counted."""

from __future__ import annotations

from collections.abc import Mapping

from lowtide.core.records import Status
from lowtide.core.tasks import SETTLED, TaskState
from lowtide.ports import System
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.run.records import settled

A_CENT_OF_A_CENT = 1e-9
"""Floating sums of money differ by less."""


def uncounted(metrics: RecordedMetrics, system: System, engine: Engine, *, given_back: int = 0) -> Mapping[str, float]:
    """Return how much more the rows and the ledger say than each metric counted. Below zero: counted too often. Metrics
    that are right are left out. A life that was redriven was an end of its own.

    ``given_back``: claims that were taken back. A row keeps what is left of its claims, so only its writes tell."""
    happened = _happened(system, engine, given_back)
    counted = {name: metrics.total(name) for name in happened}
    counted["latency_s"] = len(metrics.values("latency_s"))
    missing = {name: happened[name] - counted[name] for name in happened}
    return {name: amount for name, amount in missing.items() if abs(amount) > A_CENT_OF_A_CENT}


def _happened(system: System, engine: Engine, given_back: int) -> dict[str, float]:
    rows = [row for row in engine.tasks.scan() if row.state is not TaskState.TOMBSTONE]
    records = [document.record for _, document in settled(system, engine)]
    answered = [record for record in records if record.status is Status.ANSWERED]
    redriven = sum(row.generation for row in rows)
    ledger = engine.ledger.total()
    return {
        "tasks_accepted": len(rows),
        "attempts": sum(row.attempt for row in rows) + given_back,
        "attempts_returned": given_back,
        "tasks_settled": sum(row.state in SETTLED for row in rows) + redriven,
        "tasks_late": sum(not record.deadline_met for record in answered),
        "latency_s": len(answered),
        "dead_letters": ledger.dead + redriven + ledger.refused,
        "repaid": sum(row.repaid for row in rows),
        "refused": ledger.refused,
        "duplicates": ledger.duplicates,
        "cost_usd": float(ledger.cost_usd),
        "list_cost_usd": float(ledger.list_cost_usd),
    }
