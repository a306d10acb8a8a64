"""Tier: how long a task may wait, and how a task comes by its tier."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # routes and the message speak of tiers
    from .message import TaskMessage
    from .routes import Routes


class Tier(StrEnum):
    """Ordered from the most to the least urgent."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"


@dataclass(frozen=True, slots=True)
class Classification:
    """``reason`` is a few words, kept on the task: ``type email_draft is HIGH``."""

    tier: Tier
    reason: str


def classify(message: TaskMessage, routes: Routes) -> Classification:
    """Priority wins over type, an unknown type is NORMAL, and what is never batched is never LOW."""
    spec = routes.type_spec(message.type)
    if spec is not None:
        own, why = spec.tier, f"type {message.type} is {spec.tier}"
    else:
        own, why = Tier.NORMAL, f"type {message.type} is unknown, so NORMAL"
    tier = own
    if message.priority is not None:
        tier, why = message.priority, f"priority {message.priority} asked"
    if tier is not Tier.LOW:
        return Classification(tier, why)
    protected = routes.never_batch.covers(message.type, message.tenant, message.tags)
    if protected is None:
        return Classification(tier, why)
    safe = own if own is not Tier.LOW else Tier.NORMAL
    return Classification(safe, f"{why}, but {protected} is never batched, so {safe}")
