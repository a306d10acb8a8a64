"""Ingest: messages from publishers, validated, classified and forwarded to their tiers."""

from __future__ import annotations

from typing import Any

from lowtide import wiring
from lowtide.ports import Message, System
from lowtide.settings import Settings
from lowtide.steps.accept import Intake, accept_messages


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """An SQS event. What cannot be forwarded raises, and the whole delivery comes again: claims drop what repeats."""
    intake = wiring.run(_accept, wiring.system(Settings.from_environment()), wiring.messages(event))
    return {"batchItemFailures": [{"itemIdentifier": message.id} for message in intake.again]}


async def _accept(system: System, messages: list[Message]) -> Intake:
    return accept_messages(system, messages)
