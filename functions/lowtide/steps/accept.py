"""Accept: validate and classify what publishers sent, and forward it to its tier. Writes no state of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lowtide.core.acceptance import accept
from lowtide.core.documents import refused_letter
from lowtide.core.errors import Refused, safely_told
from lowtide.core.jsontext import carriable
from lowtide.core.message import split_message
from lowtide.core.receipts import Receipt
from lowtide.core.records import DeadLetter
from lowtide.core.task import AcceptedTask
from lowtide.ports import Message, System

from .carry import send_tasks
from .letters import send_letters


@dataclass
class Intake:
    """What a delivery came to."""

    accepted: list[AcceptedTask] = field(default_factory=list)
    refused: list[tuple[str, DeadLetter]] = field(default_factory=list)
    failed: list[Message] = field(default_factory=list)
    """For reasons of ours: to be delivered again, while the others go on."""


def accept_messages(system: System, messages: Sequence[Message]) -> Intake:
    """Each task is judged on its own: a broken one becomes a dead letter and harms nothing around it.

    Raises where a queue would not take what was accepted; then the messages are to be delivered again, and what had
    been sent already is recognised at its claim by its origin.
    """
    intake = Intake()
    entries = []
    for message in messages:
        try:
            judged = _judge(system, message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
            system.metrics.count("message_errors")
            system.metrics.log(
                "message_failed", message_id=message.id, receives=message.receives, error=safely_told(error)
            )
            intake.failed.append(message)
            continue
        intake.accepted += judged.accepted
        intake.refused += judged.refused
        if judged.refused:
            entries.append((f"intake/{message.id}", Receipt(refused=len(judged.refused))))
    send_tasks(system, intake.accepted)
    send_letters(system, intake.refused)
    if entries:
        system.ledger.put(entries)
    for task in intake.accepted:
        system.metrics.count("tasks_accepted", tier=task.tier.value)
    system.metrics.count("refused", len(intake.refused))
    return intake


def _judge(system: System, message: Message) -> Intake:
    intake = Intake()
    try:
        raws = split_message(message.body)
    except Refused as refusal:
        _refuse(system, intake, message.id, message.body, refusal)
        return intake
    for place, raw in enumerate(raws):
        origin = f"{message.id}/{place}"
        try:
            task = accept(raw, origin=origin, sent_at=message.sent_at, routes=system.routes)
        except Refused as refusal:
            _refuse(system, intake, origin, raw, refusal)
        else:
            intake.accepted.append(task)
    return intake


def _refuse(system: System, intake: Intake, origin: str, raw: Any, refusal: Refused) -> None:
    # On the dead-letter queue every refusal at the door has one code; the field and the remedy are in the message.
    letter = refused_letter(carriable(raw), "invalid_task", refusal.message, system.clock.now())
    intake.refused.append((origin, letter))
    system.metrics.log("task_refused", code=refusal.code, field=refusal.field, origin=origin)
