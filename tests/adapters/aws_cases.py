"""What the tests of the AWS adapters share: tasks, parts, and a count of the calls made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lowtide.core.lanes import Lane
from lowtide.core.parts import Lot, PartRow
from lowtide.core.records import Pointer, Status
from lowtide.core.task import AcceptedTask, Endpoint
from lowtide.core.tasks import Settle
from lowtide.core.tiers import Tier

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

SETTLE = Settle(
    holders=frozenset({"call-1"}),
    attempt=1,
    status=Status.ANSWERED,
    lane=Lane.DEFAULT,
    pointer=Pointer(key="results/1", offset=0, length=10),
)
"""An answer to the first call, which lies in an object."""


def task(number: int = 1, **changes: Any) -> AcceptedTask:
    values: dict[str, Any] = {
        "message": {"task_id": f"t_{number}"},
        "tenant": "acme",
        "task_id": f"t_{number}",
        "type": "email_draft",
        "tags": {},
        "tier": Tier.HIGH,
        "route": "type email_draft",
        "provider": "openai",
        "model": "gpt-5-mini",
        "endpoint": Endpoint.CHAT,
        "accepted_at": NOW,
        "deadline_at": NOW + timedelta(seconds=60),
        "content_hash": f"hash-{number}",
        "origin": f"message-{number}",
        "routes_version": "v1",
        "batchable": True,
    }
    return AcceptedTask(**values | changes)


def part(number: int, created_at: datetime = NOW) -> PartRow:
    return PartRow(
        part_id=f"p_{number}",
        lot=Lot(provider="openai", model="gpt-5-mini", endpoint=Endpoint.CHAT),
        object_key=f"parts/p_{number}.jsonl",
        tasks=10,
        bytes=1000,
        tokens=250,
        oldest_at=created_at,
        tightest_deadline=created_at + timedelta(hours=24),
        created_at=created_at,
        lease_until=created_at + timedelta(minutes=5),
    )


class Calls:
    """The names of the operations that a boto3 client carries out from now on, in order."""

    def __init__(self, client: Any) -> None:
        self.names: list[str] = []
        client.meta.events.register("before-call", lambda model, **_: self.names.append(model.name))
