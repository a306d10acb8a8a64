"""Reporter: on a schedule, publishes depths, baselines, the cost of a task week over week, and zeros."""

from __future__ import annotations

from typing import Any

from lowtide import wiring
from lowtide.ports import System
from lowtide.settings import Settings
from lowtide.steps.report import History, report


def handler(_event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """A scheduled event. Twice in a period does no harm: alarms read the highest depth and sums of zeros."""
    settings = Settings.from_environment()
    system = wiring.system(settings)
    wiring.run(_report, system, wiring.history(settings))
    wiring.heartbeat(system, "reporter")
    return {}


async def _report(system: System, history: History) -> None:
    report(system.tiers, history, system.metrics, system.clock.now())
