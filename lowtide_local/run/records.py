"""What a run leaves: records, dead letters and the figures over them, read from the tasks' rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lowtide.core.batches import BatchRow, ProviderStatus
from lowtide.core.receipts import GROUPS, BatchLine, Receipt
from lowtide.core.records import ResultDocument, Status
from lowtide.core.tasks import SETTLED, TaskRow
from lowtide.core.tiers import Tier
from lowtide.ports import System
from lowtide.steps.deliver import document_of
from lowtide_local.engine.engine import Engine
from lowtide_local.report.run_report import BatchStory, DeadReason, TierLine

_ENDS = {ProviderStatus.EXPIRED: "expired in part: ", ProviderStatus.FAILED: "failed validation: "}

ALL_ANSWERED = "all answered"
"""The note of a batch that nothing happened to."""


Tick = Callable[[], None]
"""Called for every row that is read. A run of 100,000 tasks reads them for minutes."""


def silent() -> None:
    """A Tick that tells nobody."""


def settled(system: System, engine: Engine, tick: Tick = silent) -> Iterator[tuple[TaskRow, ResultDocument]]:
    """Every settled task with its document, in the order of acceptance."""
    for row in engine.tasks.scan():
        tick()
        if row.state in SETTLED:
            yield row, document_of(system, row)


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over all records. ``unpriced`` as in a RunReport."""

    receipt: Receipt
    tiers: Sequence[TierLine]
    dead: Sequence[DeadReason]
    unpriced: Mapping[str, Mapping[str, int]]


def figures(system: System, engine: Engine, tick: Tick = silent) -> Figures:
    """One pass over the records. Refused and duplicate messages have none: the ledger knows them."""
    latencies: dict[Tier, list[float]] = defaultdict(list)
    met: Counter[Tier] = Counter()
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    unpriced: dict[str, Counter[str]] = {group: Counter() for group in GROUPS}

    def receipts() -> Iterator[Receipt]:
        for row, document in settled(system, engine, tick):
            record = document.record
            latencies[record.tier].append((record.finished_at - record.accepted_at).total_seconds())
            met[record.tier] += record.deadline_met
            if record.status is Status.DEAD and record.error is not None:
                reasons[record.error.code] += 1
                examples.setdefault(record.error.code, record.error.message)
            if record.cost_usd is None:
                unpriced["by_lane"][record.lane.value if record.lane is not None else ""] += 1
                unpriced["by_tier"][record.tier.value] += 1
                unpriced["by_model"][record.model] += 1
            yield Receipt.of(record, repaid=row.repaid, premium_usd=document.premium_usd)

    receipt = Receipt.sum(receipts())
    door = engine.ledger.total()
    return Figures(
        receipt=receipt.model_copy(update={"refused": door.refused, "duplicates": door.duplicates}),
        tiers=[
            TierLine(
                tier=tier.value,
                tasks=len(latencies[tier]),
                p50_s=percentile(latencies[tier], 50),
                p95_s=percentile(latencies[tier], 95),
                deadline_met=met[tier],
            )
            for tier in Tier
            if tier in latencies
        ],
        dead=[DeadReason(code=code, count=count, example=examples[code]) for code, count in reasons.most_common()],
        unpriced=unpriced,
    )


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Nearest rank."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def batch_stories(engine: Engine) -> list[BatchStory]:
    """Every batch that was sealed, oldest first, with what happened to it."""
    return [BatchStory(batch=_line(row), note=_note(row)) for row in engine.batches.scan() if row.requests]


def _line(row: BatchRow) -> BatchLine:
    ended = row.done_at or row.collected_at
    began = row.submitted_at or row.created_at
    known = row.provider_batch
    return BatchLine(
        batch_id=known.id if known is not None and known.id else row.batch_id,
        model=row.lot.model,
        requests=row.requests,
        answered=row.tally.answered,
        failed=row.requests - row.tally.answered,
        status=known.status.value if known is not None else row.state.value,
        seconds=(ended - began).total_seconds() if ended is not None else 0.0,
    )


def _note(row: BatchRow) -> str:
    told = []
    if row.found:
        told.append("the reply to its creation was lost; found at the provider, not created again")
    if row.submission > 1:
        told.append(f"the provider took none of it {row.submission - 1} times; submitted again")
    elif row.setbacks:
        told.append(f"put off {row.setbacks} times by the provider")
    if row.rescued_at is not None:
        told.append("late, and cancelled for a deadline")
    if row.tally.rescued:
        told.append(f"{row.tally.rescued} rescued onto a faster lane")
    if row.tally.retried:
        status = row.provider_batch.status if row.provider_batch is not None else None
        what = _ENDS.get(status, "") if status is not None else ""
        told.append(f"{what}{row.tally.retried} went into the next batch")
    if row.released:
        told.append("never ended, given up; its lines are counted as repaid")
    told += [
        f"its result file {file.ref} was given up ({file.reason}); what was in it is counted as repaid"
        for file in row.away
        if file.given_up
    ]
    if row.tally.unread:
        told.append(f"{row.tally.unread} lines of its files could not be used: see unreadable.jsonl")
    if row.tally.dead:
        told.append(f"{row.tally.dead} dead")
    return "; ".join(told) or ALL_ANSWERED
