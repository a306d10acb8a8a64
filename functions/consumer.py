"""Consumer: one handler, one function per real-time tier, each with its own timeout and concurrency."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lowtide import wiring
from lowtide.core.errors import ConfigError
from lowtide.core.tiers import Tier
from lowtide.ports import Message, System
from lowtide.settings import Settings
from lowtide.steps.answer import Report, answer
from lowtide.steps.slots import Slots

SETTLE_S = 5.0
"""Before the function's end every call has ended: what it brought has to be written down."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """An SQS event. Messages with unfinished tasks come back, each at its own time; their finished tasks do not."""
    settings = Settings.from_environment()
    if settings.tier is None:
        raise ConfigError("LOWTIDE_TIER not set in the environment; template.yaml sets it for each consumer")
    report = wiring.run(_answer, wiring.system(settings), settings.tier, wiring.messages(event), context)
    return {"batchItemFailures": [{"itemIdentifier": message.id} for message in report.again]}


async def _answer(system: System, tier: Tier, messages: list[Message], context: Any) -> Report:
    left_s = context.get_remaining_time_in_millis() / 1000
    return await answer(
        system,
        tier,
        messages,
        slots=Slots(system.routes.tiers[tier].concurrency),
        stop_at=system.clock.now() + timedelta(seconds=max(0.0, left_s - SETTLE_S)),
    )
