"""Assembler: on a schedule, drains LOW into parts, seals batches and submits them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lowtide import wiring
from lowtide.ports import System
from lowtide.settings import Settings
from lowtide.steps.turns import Assembled, assemble

SHARE = 0.6
"""Of the function's time, in which new work is begun; the rest is for what is under way."""


def handler(_event: dict[str, Any], context: Any) -> dict[str, Any]:
    """A scheduled event. Two at once, or one again, do no harm: leases and conditional writes see to it."""
    system = wiring.system(Settings.from_environment())
    done = wiring.run(_assemble, system, context)
    wiring.heartbeat(system, "assembler")
    return {"drained": done.drained.tasks, "sealed": done.sealed, "submitted": done.submitted}


async def _assemble(system: System, context: Any) -> Assembled:
    left_s = context.get_remaining_time_in_millis() / 1000
    return await assemble(system, stop_at=system.clock.now() + timedelta(seconds=left_s * SHARE))
