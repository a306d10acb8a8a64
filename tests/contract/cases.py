"""Tasks, parts, batches and their events, as plain as they can be: tests change what they are about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lowtide.core.batches import BatchRow, ProviderBatch, ProviderStatus
from lowtide.core.lanes import Lane
from lowtide.core.parts import Lot, PartRow
from lowtide.core.records import Status
from lowtide.core.task import AcceptedTask, Endpoint
from lowtide.core.tasks import ClaimCall, ClaimPart, Settle
from lowtide.core.tiers import Tier
from lowtide.ports import Change

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
SOON = NOW + timedelta(minutes=1)
LATER = NOW + timedelta(hours=1)

LOT = Lot(provider="openai", model="gpt-5-mini", endpoint=Endpoint.CHAT)


def task(number: int = 1, **changes: Any) -> AcceptedTask:
    values: dict[str, Any] = {
        "message": {"task_id": f"t_{number}", "type": "content_generation"},
        "tenant": "acme",
        "task_id": f"t_{number}",
        "type": "content_generation",
        "tags": {},
        "tier": Tier.LOW,
        "route": "type content_generation",
        "provider": LOT.provider,
        "model": LOT.model,
        "endpoint": LOT.endpoint,
        "accepted_at": NOW,
        "deadline_at": NOW + timedelta(hours=24),
        "content_hash": f"hash-{number}",
        "origin": f"message-{number}/0",
        "routes_version": "v1",
        "batchable": True,
    }
    return AcceptedTask(**values | changes)


def part(number: int = 1, **changes: Any) -> PartRow:
    values: dict[str, Any] = {
        "part_id": f"p_{number}",
        "lot": LOT,
        "object_key": f"parts/p_{number}.jsonl",
        "tasks": 10,
        "bytes": 1000,
        "tokens": 250,
        "oldest_at": NOW,
        "tightest_deadline": NOW + timedelta(hours=24),
        "created_at": NOW + timedelta(seconds=number),
        "lease_until": SOON,
    }
    return PartRow(**values | changes)


def batch(number: int = 1, **changes: Any) -> BatchRow:
    values: dict[str, Any] = {
        "batch_id": f"b_{number}",
        "lot": LOT,
        "part_ids": (f"p_{number}",),
        "created_at": NOW + timedelta(seconds=number),
        "tightest_deadline": NOW + timedelta(hours=24),
    }
    return BatchRow(**values | changes)


def provider_batch(status: ProviderStatus = ProviderStatus.IN_PROGRESS) -> ProviderBatch:
    return ProviderBatch(id="batch_1", status=status)


def on(key: str, *events: Any) -> list[Change[Any, Any]]:
    """Events for one row, in this order."""
    return [Change(key, event) for event in events]


def claim_call(accepted: AcceptedTask, holder: str = "call-1", until: datetime = SOON) -> ClaimCall:
    return ClaimCall(accepted, holder, until)


def claim_part(accepted: AcceptedTask, part_id: str = "p_1") -> ClaimPart:
    return ClaimPart(accepted, part_id)


def settle(*holders: str, attempt: int = 1, status: Status = Status.ANSWERED, **more: Any) -> Settle:
    return Settle(frozenset(holders), attempt, status, Lane.DEFAULT, **more)
