"""Poller: on a schedule or a hint, looks at submitted batches, collects those that have ended, and sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from lowtide import wiring
from lowtide.core.batches import BatchRow
from lowtide.ports import Message, System
from lowtide.settings import Settings
from lowtide.steps.hint import follow
from lowtide.steps.turns import collect_due, sweep_due

SHARE = 0.6
"""Of the function's time, in which a batch is begun; the rest is for what is under way."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """A scheduled event, or an SQS event of hints. Two at once, or one again, do no harm: leases and conditional writes
    see to it."""
    system = wiring.system(Settings.from_environment())
    if "Records" in event:
        again = wiring.run(_follow, system, wiring.messages(event), context)
        return {"batchItemFailures": [{"itemIdentifier": message.id} for message in again]}
    done = wiring.run(_collect, system, context)
    wiring.heartbeat(system, "poller")
    return {"done": done}


async def _collect(system: System, context: Any) -> int:
    stop_at = _stop_at(system, context)
    active = system.batches.active()
    _publish_oldest(system, active)
    try:
        return await collect_due(system, active, stop_at=stop_at)
    finally:
        _publish_breakers(system)
        await sweep_due(system, stop_at=stop_at)


async def _follow(system: System, messages: list[Message], context: Any) -> list[Message]:
    return await follow(system, messages, stop_at=_stop_at(system, context))


def _stop_at(system: System, context: Any) -> datetime:
    left_s = context.get_remaining_time_in_millis() / 1000
    return system.clock.now() + timedelta(seconds=left_s * SHARE)


def _publish_oldest(system: System, active: Sequence[BatchRow]) -> None:
    """Of the batches that were open when the turn began, before anything in it can fail. On every run, 0 where none is,
    so that silence and health are told apart."""
    now = system.clock.now()
    ages = [(now - row.submitted_at).total_seconds() for row in active if row.submitted_at]
    system.metrics.count("oldest_batch_age_s", max(ages, default=0.0))


def _publish_breakers(system: System) -> None:
    """On every run, 0 where all are closed: nobody calls a model whose breaker is open, so nobody else would say so."""
    held = system.paces.active()
    accounts = sum(row.of_account for row in held)
    system.metrics.count("account_held", accounts)
    system.metrics.count("breaker_open", len(held) - accounts)
