"""A part: a durable slice of drained LOW tasks, all for one provider, model and endpoint.

::

    (none) ──Open──▶ open ──Close──▶ closed ──Join──▶ joined ──Finish──▶ done
                       ├────Join, once its lease ran out────▲                │
                       └──Rescue: as Join, in no batch: its tasks go on──────┘

The part's object is durable before its row exists, and its row exists before any task's claim names it. A part joins
one batch, by a conditional write on its own row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from pydantic import Field

from .model import Stored, Utc
from .task import AcceptedTask, Endpoint
from .tasks import Strikes

RESCUED = "rescued"
"""Stands in a part's ``batch_id`` for the batch that it will not join."""


class PartState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    JOINED = "joined"
    DONE = "done"


class Lot(Stored):
    """What one batch can hold together: batches are made per provider, model and endpoint."""

    provider: str
    model: str
    endpoint: Endpoint


class PartLine(Stored):
    """One line of a part's object. ``attempt`` is set in a retry part, where it is known beforehand."""

    task: AcceptedTask
    strikes: Strikes = Strikes()


def part_object(part_id: str) -> str:
    """The key of the object with a part's lines."""
    return f"parts/{part_id}.jsonl"


class PartRow(Stored):
    """``bytes`` and ``tokens`` are estimates of the request lines that the part will become."""

    rev: int = 0
    part_id: str
    lot: Lot
    object_key: str
    tasks: int
    inputs: int = 0
    """Of embeddings, which have a limit of their own in a batch; 0 elsewhere."""
    bytes: int
    tokens: int
    shares: dict[str, int] = Field({})
    """Whose turns it takes, and how much of them: see core/tenants.py."""
    oldest_at: Utc
    tightest_deadline: Utc
    created_at: Utc
    tenant: str | None = None
    """Whose tasks alone it has, where a hold on them was in force when it was drained, or when the batch that had them
    was collected; else of anybody's."""
    kept_at: Utc | None = None
    """When its object was last written anew, so that it outlives the bucket's lifecycle."""
    not_before: Utc | None = None
    alone: bool = False
    """In a batch of its own: half of one that failed for a line that nobody named."""
    state: PartState = PartState.OPEN
    lease_until: Utc | None = None
    batch_id: str | None = None
    rescue_before: Utc | None = None
    """Taken out of batching: what is due before goes to a queue, the rest into a part of its own."""

    @property
    def key(self) -> str:
        return self.part_id

    @property
    def active(self) -> bool:
        return self.state is not PartState.DONE

    def ready(self, now: datetime) -> bool:
        """May a batch take it: closed and due, or left open by a drain whose lease ran out."""
        match self.state:
            case PartState.CLOSED:
                return self.not_before is None or self.not_before <= now
            case PartState.OPEN:
                return self.lease_until is not None and self.lease_until <= now
            case PartState.JOINED | PartState.DONE:
                return False
            case _:
                assert_never(self.state)


@dataclass(frozen=True, slots=True)
class Open:
    """Puts the row: ``open`` with a lease for a drain, already ``closed`` for a retry part."""

    part: PartRow


@dataclass(frozen=True, slots=True)
class Close:
    pass


@dataclass(frozen=True, slots=True)
class Join:
    batch_id: str


@dataclass(frozen=True, slots=True)
class Rescue:
    """In place of a batch's join, and shutting it out: some task is due before a batch could bring it."""

    before: datetime


@dataclass(frozen=True, slots=True)
class Finish:
    batch_id: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Its object was written anew at ``at``."""

    at: datetime


PartEvent = Open | Close | Join | Rescue | Finish | Keep


class PartVerdict(StrEnum):
    APPLIED = "applied"
    REPEATED = "repeated"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class PartDecision:
    verdict: PartVerdict
    row: PartRow | None
    changed: bool = False


def transition(row: PartRow | None, event: PartEvent, now: datetime) -> PartDecision:
    match event:
        case Open(part):
            if row is None:
                return PartDecision(PartVerdict.APPLIED, part, changed=True)
            return PartDecision(PartVerdict.REPEATED, row)
        case Close():
            if row is None or row.state is not PartState.OPEN:
                return PartDecision(PartVerdict.STALE, row)
            closed = row.model_copy(update={"state": PartState.CLOSED, "lease_until": None})
            return PartDecision(PartVerdict.APPLIED, closed, changed=True)
        case Join(batch_id):
            if row is not None and row.batch_id == batch_id:
                return PartDecision(PartVerdict.REPEATED, row)
            if row is None or not row.ready(now):
                return PartDecision(PartVerdict.STALE, row)
            joined = row.model_copy(update={"state": PartState.JOINED, "lease_until": None, "batch_id": batch_id})
            return PartDecision(PartVerdict.APPLIED, joined, changed=True)
        case Rescue(before):
            if row is not None and row.batch_id == RESCUED:
                return PartDecision(PartVerdict.REPEATED, row)
            # A retry's backoff is its batch's: for a faster lane it need not be waited out.
            if row is None or not (row.state is PartState.CLOSED or row.ready(now)):
                return PartDecision(PartVerdict.STALE, row)
            taken = {"state": PartState.JOINED, "lease_until": None, "batch_id": RESCUED, "rescue_before": before}
            return PartDecision(PartVerdict.APPLIED, row.model_copy(update=taken), changed=True)
        case Finish(batch_id):
            if row is None or row.batch_id != batch_id:
                return PartDecision(PartVerdict.STALE, row)
            if row.state is PartState.DONE:
                return PartDecision(PartVerdict.REPEATED, row)
            return PartDecision(PartVerdict.APPLIED, row.model_copy(update={"state": PartState.DONE}), changed=True)
        case Keep(at):
            if row is None or not row.active:
                return PartDecision(PartVerdict.STALE, row)
            if row.kept_at is not None and row.kept_at >= at:
                return PartDecision(PartVerdict.REPEATED, row)
            return PartDecision(PartVerdict.APPLIED, row.model_copy(update={"kept_at": at}), changed=True)
        case _:
            assert_never(event)
