"""Reconciliation: does what we say we paid for agree with what the provider says it billed?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from lowtide.core.batches import ProviderBatch
from lowtide.core.lanes import Lane
from lowtide.core.model import usd_text
from lowtide.core.receipts import Receipt
from lowtide.core.records import Status, Usage
from lowtide.core.result_files import lost
from lowtide.core.task import custom_id
from lowtide.core.tasks import SETTLED, TaskState
from lowtide.ports import System
from lowtide_local.engine.engine import Engine
from lowtide_local.report.run_report import Check, NotChecked

from .records import Tick, settled, silent


@dataclass(frozen=True, slots=True)
class BilledLine:
    """One thing that the provider billed. ``ours`` is the id we gave it: a line's ``custom_id`` or a call's id;
    ``batch_id`` is the provider's, None for a call."""

    ours: str
    model: str
    lane: Lane
    usage: Usage
    at: datetime
    batch_id: str | None = None

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> BilledLine:
        """From a line of the simulated provider's statement. Raises KeyError, TypeError or ValueError for others."""
        return cls(
            ours=str(line["id"]),
            model=str(line["model"]),
            lane=Lane(line["service_tier"]),
            usage=Usage(
                input_tokens=line["input_tokens"],
                cached_input_tokens=line["cached_input_tokens"],
                output_tokens=line["output_tokens"],
            ),
            at=datetime.fromisoformat(line["at"]),
            batch_id=line.get("batch_id"),
        )


def checks(
    system: System, engine: Engine, receipt: Receipt, billed: Sequence[BilledLine] | None, tick: Tick = silent
) -> list[Check]:
    """Each statement on its own. ``billed`` is None where the provider cannot be asked."""
    usages, paid = _of_records(system, engine, tick)
    made = [*_nothing_is_open(engine, receipt), _ledger(engine.ledger.total(), receipt), *_batches(engine, usages)]
    if billed is not None:
        made += _billed(system, engine, billed, paid)
    return made


def unchecked(engine: Engine, billed: Sequence[BilledLine] | str) -> list[NotChecked]:
    """List what ``checks`` could not look at, and why. ``billed`` is the bill, or why there is none."""
    missing = []
    if isinstance(billed, str):
        missing.append(NotChecked("what the provider billed, line by line", billed))
    batches = [row.provider_batch for row in engine.batches.scan() if row.provider_batch is not None]
    silent = sum(not batch.usage for batch in batches)
    if silent:
        name = "each batch's tokens against what the provider reported for it"
        missing.append(NotChecked(name, f"{silent} of {len(batches)} batches were reported without their tokens"))
    return missing


def _nothing_is_open(engine: Engine, receipt: Receipt) -> Iterator[Check]:
    counts = engine.tasks.counts()
    counts.pop(TaskState.TOMBSTONE, None)  # waits for a task that nobody has brought
    accepted = sum(counts.values())
    ended = sum(count for state, count in counts.items() if state in SETTLED)
    yield Check(
        name="every accepted task has exactly one record",
        held=accepted == ended == receipt.tasks,
        detail=f"{accepted} accepted, {ended} ended, {receipt.tasks} records",
    )


def _ledger(ledger: Receipt, receipt: Receipt) -> Check:
    return Check(
        name="the ledger is the sum of the receipts",
        held=ledger == receipt,
        detail=f"${usd_text(ledger.cost_usd)} in {ledger.tasks} entries, ${usd_text(receipt.cost_usd)} in receipts",
    )


def _of_records(system: System, engine: Engine, tick: Tick) -> tuple[Mapping[str, Usage], Decimal]:
    """Return the tokens of each batch's answers, and the cost of all records."""
    usages: dict[str, Usage] = defaultdict(Usage)
    paid = Decimal(0)
    for _, document in settled(system, engine, tick):
        record = document.record
        paid += record.cost_usd or Decimal(0)
        if record.batch_id is not None and record.status is Status.ANSWERED:
            usages[record.batch_id] += record.usage
    return usages, paid


def _batches(engine: Engine, usages: Mapping[str, Usage]) -> Iterator[Check]:
    unread = _unread_batches(engine)
    reported = {
        row.provider_batch.id: row
        for row in engine.batches.scan()
        if row.provider_batch is not None and row.provider_batch.usage and row.provider_batch.id not in unread
    }
    if not reported:
        return
    wrong = [
        batch_id
        for batch_id, row in reported.items()
        if not _agrees(row.provider_batch, usages.get(batch_id, Usage()) + row.tally.in_vain)
    ]
    yield Check(
        name="each batch's tokens are what the provider reported for it",
        held=not wrong,
        detail=f"{len(reported)} batches reported" + (f"; not so: {', '.join(wrong)}" if wrong else ""),
    )


def _agrees(batch: ProviderBatch | None, summed: Usage) -> bool:
    usage = (batch.usage if batch is not None else None) or {}
    return all(usage.get(name) in (None, getattr(summed, name)) for name in ("input_tokens", "output_tokens"))


def _billed(system: System, engine: Engine, billed: Sequence[BilledLine], paid: Decimal) -> Iterator[Check]:
    receipts, repaid = defaultdict[str, set[str]](set), {}
    failed = set[str]()
    for row in engine.tasks.scan():
        if row.state not in SETTLED:
            continue
        # Every attempt's id begins with the task's digest, so a task's lines are found without knowing its attempts.
        digest = _digest(custom_id(row.tenant, row.task_id, row.attempt))
        repaid[digest] = row.repaid
        failed |= (struck := {custom_id(row.tenant, row.task_id, attempt) for attempt in row.strikes.billed})
        receipts[digest] |= struck
        if row.choice is not None and row.choice.question_id is not None:
            receipts[digest].add(row.choice.question_id)
        if row.state is TaskState.ANSWERED:
            receipts[digest].add(custom_id(row.tenant, row.task_id, row.attempt))
    lines = Counter(line.ours for line in billed)
    unknown = [ours for ours in lines if _digest(ours) not in repaid]
    named = {ours for each in receipts.values() for ours in each}
    unbilled = [ours for ours in named if lines[ours] == 0]
    beside: Counter[str] = Counter()
    for ours, times in lines.items():
        beside[_digest(ours)] += times - (ours in named)
    over = [digest for digest, times in beside.items() if times > repaid.get(digest, 0)]
    unread = _unread_batches(engine)
    batched = Counter(
        _digest(line.ours)
        for line in billed
        if line.lane is Lane.BATCH and line.ours not in failed and line.batch_id not in unread
    )
    twice = [digest for digest, times in batched.items() if times > 1]
    extra = sum(beside.values())
    yield Check(
        name="every line that the provider billed is in a receipt or in repaid",
        held=not over and not unknown,
        detail=f"{len(billed)} billed, {len(named)} in receipts, {extra} beside them, {sum(repaid.values())} repaid",
    )
    yield Check(
        name="every receipt is for a line that the provider billed",
        held=not unbilled,
        detail=f"{len(named) - len(unbilled)} of {len(named)}",
    )
    yield _dollars(system, named, billed, paid)
    yield Check(
        name="no batched line was billed twice",
        held=not twice,
        detail=f"{sum(batched.values())} batched lines for {len(batched)} tasks"
        + (f", beside {len(unread)} batches whose answers could not be had" if unread else ""),
    )


def _unread_batches(engine: Engine) -> frozenset[str]:
    """Batches that were given up, or one of their files: what they billed may be bought again, and is in ``repaid``."""
    return frozenset(
        row.provider_batch.id
        for row in engine.batches.scan()
        if row.provider_batch is not None and (row.released or lost(row) is not None)
    )


def _dollars(system: System, ours: Collection[str], billed: Sequence[BilledLine], paid: Decimal) -> Check:
    """The provider's lines priced by us: those in receipts against the records' own prices (``paid``), and what the
    others come to. Of a line that was billed again one is in the receipt."""
    receipts, beside, found = Decimal(0), Decimal(0), set[str]()
    for line in billed:
        price = _price(system, line) or Decimal(0)
        if line.ours in ours and line.ours not in found:
            receipts += price
            found.add(line.ours)
        else:
            beside += price
    return Check(
        name="the provider's bill, priced line by line, is the sum of the receipts and of what was repaid",
        held=receipts == paid,
        detail=f"${usd_text(receipts + beside)} billed, ${usd_text(paid)} in receipts, ${usd_text(beside)} beside them",
    )


def _price(system: System, line: BilledLine) -> Decimal | None:
    seller = system.seller(system.routes.model(line.model).provider)
    return seller.price(line.model, line.lane, line.usage, line.at)


def _digest(ours: str) -> str:
    return ours.rpartition("-")[0]
