"""What a report tells: counts, money and times. Prompts and answers have no place in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lowtide.core.charges import PriceSource
from lowtide.core.receipts import BatchLine, Receipt


@dataclass(frozen=True, slots=True)
class TierLine:
    """``p50_s`` and ``p95_s`` run from accepted to finished, ``None`` where nothing finished; ``deadline_met`` counts
    tasks."""

    tier: str
    tasks: int
    p50_s: float | None
    p95_s: float | None
    deadline_met: int


@dataclass(frozen=True, slots=True)
class BatchStory:
    """A batch and what happened to it, in a few words (``expired in part; its rest went into the next``)."""

    batch: BatchLine
    note: str = ""


@dataclass(frozen=True, slots=True)
class DeadReason:
    """Dead letters of one code, with one of their messages."""

    code: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class Check:
    """One statement of the reconciliation. ``detail`` shows both sides of it."""

    name: str
    held: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NotChecked:
    """A statement of the reconciliation that could not be looked at."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line of the input that became no task."""

    line: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """``finished_at`` is aware; ``versions`` says what ran (``lowtide``, ``prices``, ``python``, …).

    ``unpriced`` counts tasks without a known price by lane, tier and model, under the receipt's names for these.
    ``refused`` are the first of the lines that became no task. ``prices``: whose were used.
    """

    title: str
    receipt: Receipt
    tiers: Sequence[TierLine]
    batches: Sequence[BatchStory]
    dead: Sequence[DeadReason]
    checks: Sequence[Check]
    finished_at: datetime
    versions: Mapping[str, str]
    unchecked: Sequence[NotChecked] = ()
    unpriced: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    refused: Sequence[RefusedLine] = ()
    prices: PriceSource | None = None

    def receipt_document(self) -> dict[str, Any]:
        """Return receipt.json."""
        batches = [story.batch for story in self.batches]
        document = self.receipt.document(batches, reconciled=self.reconciled)
        return document if self.prices is None else document | {"prices": self.prices.document(self.finished_at.date())}

    @property
    def reconciled(self) -> bool:
        """Whether at least one check was made, and all of them held. ``unchecked`` does not count."""
        return bool(self.checks) and all(check.held for check in self.checks)
