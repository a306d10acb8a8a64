"""What befell the day: for a list of moments, told from the rows that it left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from lowtide.core.batches import BatchRow, ProviderStatus
from lowtide.core.wording import span

from .day import RUSH_H


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, ``at`` a simulated time."""

    at: datetime
    what: str


def storm(start: datetime, put_off: int) -> Moment:
    """``put_off``: calls that met it."""
    what = f"a storm of 429s: {put_off} calls put off, none counted as tried"
    return Moment(start + timedelta(hours=RUSH_H), what)


def batches_befallen(rows: Iterable[BatchRow]) -> Iterator[Moment]:
    """Those that came to an end that nobody wished, each at the moment at which we knew."""
    for row in rows:
        status = row.provider_batch.status if row.provider_batch is not None else None
        if row.collected_at is None:
            continue
        if status is ProviderStatus.EXPIRED:
            rest = f"{row.tally.answered} of {row.requests} answers kept"
            yield Moment(row.collected_at, f"a batch expired in part: {rest}")
        if status is ProviderStatus.FAILED:
            rest = f"{row.tally.dead} dead, {row.tally.retried} sent again"
            yield Moment(row.collected_at, f"a batch of {row.requests} was refused whole for a line of it: {rest}")
        if row.rescued_at is not None:
            left = span((row.tightest_deadline - row.rescued_at).total_seconds())
            tally = row.tally
            rest = f"{tally.answered} answers kept, {tally.rescued} bought at once, {tally.retried} batched again"
            yield Moment(row.rescued_at, f"a batch was late and cancelled {left} before a deadline: {rest}")
