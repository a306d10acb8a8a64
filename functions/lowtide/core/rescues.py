"""When a deadline takes work out of a batch, and when a batch is given up: decided on values.

A running batch is cancelled at the last moment at which the cancel can end and the rest be answered on a faster lane
before the deadline, unless it is all but sure to end in time by itself. To cancel earlier would only waste what it
answers until then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from .batches import BatchRow, BatchState
from .batching import Batching
from .history import Eta, Prior
from .model import LONGEST_S

GIVEN_UP_AFTER = timedelta(hours=48)
"""After its submission. Twice the longest window: what the provider has not ended by then, or still says that it does
not know, is not expected to end. What it holds may be bought again, and is counted as ``repaid``."""

BATCH_PRIOR = Prior(median_s=7 * 60.0, p90_s=3600.0)
"""A public router's figures for OpenAI's batches: half end in seven minutes, nine in ten within the hour."""

LONGEST_TURN = timedelta(minutes=15)
"""Between two turns of the assembler, the most that template.yaml takes: who waits now is looked at again by then."""

SAFE = 90
"""The percentile to rely on where lateness costs a deadline."""
LIKELY = 50
"""The percentile to try for where failing costs only the attempt."""


@dataclass(frozen=True, slots=True)
class Margins:
    """``cancel`` is what a cancel may take, ``answer`` what it takes to notice and to answer one task by a call;
    ``per_second`` tasks are answered once they begin."""

    cancel: timedelta
    answer: timedelta
    per_second: float

    @classmethod
    def of(cls, batching: Batching) -> Margins:
        return cls(
            cancel=timedelta(seconds=batching.rescue_cancel_s),
            answer=timedelta(seconds=batching.rescue_answer_s),
            per_second=batching.rescue_rate,
        )

    def needed(self, tasks: int) -> timedelta:
        """From the decision to cancel to the last of ``tasks`` answers. No more than any deadline may be away."""
        return self.cancel + self.answer + timedelta(seconds=min(LONGEST_S, tasks / self.per_second))


def think_of_rescue_at(batch: BatchRow, margins: Margins) -> datetime:
    """The last moment at which a cancel leaves time for the answers."""
    return batch.tightest_deadline - margins.needed(batch.requests)


def near(batch: BatchRow, now: datetime, margins: Margins) -> bool:
    """Is it on its way, and its tightest deadline so near that a rescue has to be thought of?"""
    return batch.rescued_at is None and think_of_rescue_at(batch, margins) <= now


def rescue_due(batch: BatchRow, now: datetime, eta: Eta, margins: Margins) -> bool:
    """Must it be cancelled now?"""
    if batch.state is not BatchState.RUNNING or batch.submitted_at is None or not near(batch, now, margins):
        return False
    left_s = eta.remaining_s((now - batch.submitted_at).total_seconds(), SAFE)
    return math.isinf(left_s) or now + timedelta(seconds=left_s) > batch.tightest_deadline


def given_up(batch: BatchRow, now: datetime) -> bool:
    """Has it run for so long that its lines count as missing?"""
    return batch.submitted_at is not None and now >= batch.submitted_at + GIVEN_UP_AFTER


def too_soon_for_another(now: datetime, tasks: int, eta: Eta, margins: Margins) -> datetime:
    """What is due before this moment goes to a faster lane rather than into a batch that has yet to be made: as likely
    as not it would have to be rescued from that one."""
    return now + margins.needed(tasks) + timedelta(seconds=eta.within_s(LIKELY))


def seal_by(eta: Eta, tasks: int, margins: Margins) -> timedelta:
    """How long before its tightest deadline a batch must be on its way, to end in time by itself nine times in ten."""
    return margins.needed(tasks) + timedelta(seconds=eta.within_s(SAFE))


def may_wait(batch: BatchRow, now: datetime, eta: Eta, margins: Margins) -> bool:
    """Could it begin a turn later and still end in time by itself, nine times in ten?"""
    return now + LONGEST_TURN < batch.tightest_deadline - seal_by(eta, batch.requests, margins)
