"""Poller: on a schedule, looks at submitted batches and collects those that have ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lowtide import wiring
from lowtide.ports import System
from lowtide.settings import Settings
from lowtide.steps.turns import collect_due

SHARE = 0.6
"""Of the function's time, in which a batch is begun; the rest is for what is under way."""


def handler(_event: dict[str, Any], context: Any) -> dict[str, Any]:
    """A scheduled event. Two at once, or one again, do no harm: leases and conditional writes see to it."""
    system = wiring.system(Settings.from_environment())
    done = wiring.run(_collect, system, context)
    wiring.heartbeat(system, "poller")
    return {"done": done}


async def _collect(system: System, context: Any) -> int:
    left_s = context.get_remaining_time_in_millis() / 1000
    try:
        return await collect_due(system, stop_at=system.clock.now() + timedelta(seconds=left_s * SHARE))
    finally:
        _publish_oldest(system)


def _publish_oldest(system: System) -> None:
    """On every run, 0 where no batch is open, so that silence and health are told apart."""
    now = system.clock.now()
    ages = [(now - row.submitted_at).total_seconds() for row in system.batches.active() if row.submitted_at]
    system.metrics.count("oldest_batch_age_s", max(ages, default=0.0))
