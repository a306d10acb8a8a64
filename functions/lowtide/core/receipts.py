"""Receipts: what a task or a run cost, what list price would have been, what was saved.

A receipt is a sum: adding is associative and commutative, ``Receipt()`` is its zero, ``-receipt`` takes it back. So a
ledger may be folded in any order, and shard by shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from pydantic import Field

from .model import Stored, Usd, Value, usd_text
from .records import ResultRecord, Status

ZERO = Decimal(0)
TENTH = Decimal("0.1")
"""``saved_pct`` has one decimal."""

COUNTS = ("tasks", "answered", "dead", "cancelled", "refused", "duplicates", "unpriced", "repaid")
MONEY = ("cost_usd", "list_cost_usd")
GROUPS = ("by_lane", "by_tier", "by_model")
RESCUES = ("rescued", "premium_usd")
"""Kept in the ledger and told in reports; receipt.json, whose fields are fixed, has no place for them."""


class Share(Stored):
    """One lane's, tier's or model's part of a receipt. US dollars."""

    tasks: int = 0
    cost_usd: Usd = ZERO
    list_cost_usd: Usd = ZERO

    def __add__(self, other: Share) -> Share:
        return Share(
            tasks=self.tasks + other.tasks,
            cost_usd=self.cost_usd + other.cost_usd,
            list_cost_usd=self.list_cost_usd + other.list_cost_usd,
        )

    def __neg__(self) -> Share:
        return Share(tasks=-self.tasks, cost_usd=-self.cost_usd, list_cost_usd=-self.list_cost_usd)


class BatchLine(Value):
    """One batch on a receipt. ``failed`` are its lines that did not answer; ``seconds`` from submission to the end."""

    batch_id: str
    model: str
    requests: int
    answered: int
    failed: int
    status: str
    seconds: float


class Receipt(Stored):
    """``tasks`` = answered + dead + cancelled; refused and duplicate messages became no task.

    ``cost_usd`` is what was paid for all attempts, failed ones too; ``list_cost_usd`` what the answers would have cost
    on the default lane, so that paying for failures lessens what was saved. A record without a known price
    (``unpriced``) is in neither. ``repaid`` counts calls and batches that the provider may have billed a second time.
    A task that was never called is in no lane. ``rescued`` answers were bought on a faster lane for their deadline, for
    ``premium_usd`` more than in a batch (below zero where a cheaper cached prompt made up for it); both are part of the
    figures above.
    """

    tasks: int = 0
    answered: int = 0
    dead: int = 0
    cancelled: int = 0
    refused: int = 0
    duplicates: int = 0
    unpriced: int = 0
    repaid: int = 0
    cost_usd: Usd = ZERO
    list_cost_usd: Usd = ZERO
    rescued: int = 0
    premium_usd: Usd = ZERO
    by_lane: dict[str, Share] = Field(default_factory=dict)
    by_tier: dict[str, Share] = Field(default_factory=dict)
    by_model: dict[str, Share] = Field(default_factory=dict)

    @classmethod
    def of(cls, record: ResultRecord, *, repaid: int = 0, premium_usd: Decimal | None = None) -> Receipt:
        """One settled task's receipt. ``premium_usd``: of a rescue, None where there was none."""
        cost = ZERO if record.cost_usd is None else record.cost_usd
        listed = ZERO if record.cost_usd is None or record.list_cost_usd is None else record.list_cost_usd
        share = Share(tasks=1, cost_usd=cost, list_cost_usd=listed)
        return cls(
            tasks=1,
            answered=int(record.status is Status.ANSWERED),
            dead=int(record.status is Status.DEAD),
            cancelled=int(record.status is Status.CANCELLED),
            unpriced=int(record.cost_usd is None),
            repaid=repaid,
            cost_usd=cost,
            list_cost_usd=listed,
            rescued=int(premium_usd is not None),
            premium_usd=premium_usd or ZERO,
            by_lane={} if record.lane is None else {record.lane.value: share},
            by_tier={record.tier.value: share},
            by_model={record.model: share},
        )

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt.sum((self, other))

    def __neg__(self) -> Receipt:
        """What takes this receipt out of a sum: its record was replaced."""
        return Receipt(
            **{name: -getattr(self, name) for name in (*COUNTS, *MONEY, *RESCUES)},
            **{name: {key: -share for key, share in getattr(self, name).items()} for name in GROUPS},
        )

    @classmethod
    def sum(cls, receipts: Iterable[Receipt]) -> Receipt:
        """In one pass: 50,000 receipts take a fraction of a second."""
        totals: dict[str, Any] = dict.fromkeys(COUNTS, 0) | dict.fromkeys(MONEY, ZERO)
        totals |= {"rescued": 0, "premium_usd": ZERO}
        groups: dict[str, dict[str, list[Any]]] = {name: {} for name in GROUPS}
        for receipt in receipts:
            for name in totals:
                totals[name] += getattr(receipt, name)
            for name, group in groups.items():
                for key, share in getattr(receipt, name).items():
                    sums = group.setdefault(key, [0, ZERO, ZERO])
                    sums[0] += share.tasks
                    sums[1] += share.cost_usd
                    sums[2] += share.list_cost_usd
        shares = {
            name: {
                key: Share(tasks=tasks, cost_usd=cost, list_cost_usd=listed)
                for key, (tasks, cost, listed) in sorted(group.items())
                if tasks or cost or listed  # what was taken back whole leaves no line
            }
            for name, group in groups.items()
        }
        return cls(**totals, **shares)

    @property
    def saved_usd(self) -> Decimal:
        """Below zero where faster lanes, or attempts that failed, cost more than was saved."""
        return self.list_cost_usd - self.cost_usd

    @property
    def saved_pct(self) -> float:
        """Of list price, to one decimal; 0.0 where there is no list price."""
        if not self.list_cost_usd:
            return 0.0
        return float((100 * self.saved_usd / self.list_cost_usd).quantize(TENTH, ROUND_HALF_EVEN))

    def document(self, batches: Sequence[BatchLine], *, reconciled: bool) -> dict[str, Any]:
        """receipt.json: counts, money as decimal strings, shares, batches."""
        return {
            **{name: getattr(self, name) for name in COUNTS},
            **{name: usd_text(getattr(self, name)) for name in MONEY},
            "saved_usd": usd_text(self.saved_usd),
            "saved_pct": self.saved_pct,
            **{
                name: {key: share.model_dump(mode="json") for key, share in getattr(self, name).items()}
                for name in GROUPS
            },
            "batches": [batch.model_dump(mode="json") for batch in batches],
            "reconciled": reconciled,
        }
