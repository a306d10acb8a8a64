"""Admit: a webhook from outside into a hint on a queue, if it is the provider's own.

Whoever comes to this door is handed no System: it can do nothing but drop a hint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, assert_never

from lowtide.core.webhooks import Delivery, Hint, Refusal, Unrelated, read, signing_key
from lowtide.ports import Clock, Metrics, Outgoing, Queue


class WebhookIds(Protocol):
    """Which webhooks have been passed on."""

    def known(self, event_id: str) -> bool: ...

    def note(self, event_id: str, now: datetime) -> None:
        """Remembers it for longer than the provider repeats it. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Door:
    """What the webhook function is handed. ``secret`` gives the signing key as the provider shows it: ``whsec_…``."""

    secret: Callable[[], str]
    hints: Queue
    passed_on: WebhookIds
    clock: Clock
    metrics: Metrics


def admit(door: Door, delivery: Delivery) -> Refusal | None:
    """None where it is taken: passed on, passed on before, or about something else.

    Passed on first, then noted: cut off in between, the provider's repeat is passed on again, and a hint may well be
    followed twice. Raises ConfigError where the secret is none, LowtideError where a hint could not be sent.
    """
    now = door.clock.now()
    found = read(delivery, signing_key(door.secret()), now)
    match found:
        case Refusal():
            return refuse(door, found)
        case Unrelated():
            outcome = "unrelated"
        case Hint() if door.passed_on.known(found.event_id):
            outcome = "repeated"
        case Hint():
            door.hints.send([Outgoing(found.model_dump_json())])
            door.passed_on.note(found.event_id, now)
            outcome = "accepted"
            door.metrics.log("hint", batch=found.provider_batch_id, event_id=found.event_id, kind=found.kind.value)
        case _:
            assert_never(found)
    door.metrics.count("webhooks", outcome=outcome)
    return None


def refuse(door: Door, refusal: Refusal) -> Refusal:
    """Counted, and told to nobody but our log."""
    door.metrics.count("webhooks", outcome="refused")
    door.metrics.log("webhook_refused", reason=refusal.value)
    return refusal
