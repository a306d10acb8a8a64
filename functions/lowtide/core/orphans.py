"""What at the provider no row knows any more, though it carries our name: a decision on the row as it is.

A row says what it will do before it does it, so what carries the row's newest submission, and is not yet noted in it,
may still be found and used; what carries an older one, or stands beside the one that is noted, never will be.
"""

from __future__ import annotations

from datetime import datetime

from .batches import GRACE, BatchRow


def old_enough(created_at: datetime | None, now: datetime) -> bool:
    """Past the grace period, so that whoever made it has had the time to note it. Without an age it never is."""
    return created_at is not None and created_at + GRACE <= now


def orphan_batch(row: BatchRow | None, submission: int, provider_batch_id: str) -> bool:
    """Will nobody ever look at this batch of the row's ``submission``?"""
    if row is None or row.submission != submission:
        return row is None or row.submission > submission
    known = row.provider_batch
    # Not noted yet: the next look finds it by its key.
    return known.id != provider_batch_id if known is not None else not row.active


def unheard_cancel(row: BatchRow | None, submission: int, provider_batch_id: str) -> bool:
    """Was this batch given up, so that it should have ended? Nobody waited to see whether its cancel was heard."""
    if row is None or row.provider_batch is None or row.active or not row.released:
        return False
    return (row.submission, row.provider_batch.id) == (submission, provider_batch_id)


def orphan_input(row: BatchRow | None, submission: int, file_id: str, now: datetime) -> bool:
    """Will no batch ever be made from, or run on, this input of the row's ``submission``?"""
    if row is None or row.submission != submission:
        return row is None or row.submission > submission
    if not row.active:
        return _over(row, now)
    # While it is not running, a repeated hand-over finds it by its name.
    known = row.provider_batch
    return known is not None and file_id not in (row.input_ref, known.input_ref)


def orphan_output(row: BatchRow | None, submission: int, provider_batch_id: str, now: datetime) -> bool:
    """Will nobody ever read the files that this batch of the row's ``submission`` wrote?"""
    if orphan_batch(row, submission, provider_batch_id):
        return True
    return row is not None and row.submission == submission and not row.active and _over(row, now)


def _over(row: BatchRow, now: datetime) -> bool:
    """Long enough for what was deleted with the row's end to be out of the provider's lists."""
    return old_enough(row.done_at, now)
