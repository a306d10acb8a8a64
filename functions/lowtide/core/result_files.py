"""Result files of an ended batch: how long to wait until they are named, and when to give up one that cannot be read.

Their lines were paid for, so a file is asked for many times before anything is bought again. The waiting ends: the
lines of a file that never comes are missing, and missing lines are sent again and counted as ``repaid``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from .batch_rows import Away, AwayFile, BatchRow, ProviderBatch, ProviderStatus
from .collection import took_none
from .errors import BrokenOff, Garbled, KeyStoreAway, KeyUnreadable, ProviderRefused, Unreachable, Unsendable
from .whose_fault import Fault, fault_of_batch, only_forbidden

NAMED_WITHIN = timedelta(minutes=10)
"""Time that a batch has to name its files, from the first look that finds it ended. Public reports tell of seconds; the
margin costs only time."""


PATIENCE = {
    Away.GONE: timedelta(minutes=5),
    Away.KEPT_BACK: timedelta(hours=1),
    Away.BARRED: timedelta(days=30),
    Away.FAILURES_BARRED: timedelta(hours=6),
    Away.UNWELL: timedelta(hours=48),
}
"""Time for which a file is asked for, from the first time that it was away for this reason. An hour lets a
network recover. A file that only an operator can open is waited for as long as the provider keeps it: it was paid for.
One that names failures alone is worth a few hours. 48 hours outlast an outage; a batch that does not end is waited for
as long."""


_AWAY_FOR = {
    Fault.ACCOUNT: None,
    Fault.NOW: Away.UNWELL,
    Fault.PROVIDER: Away.UNWELL,
    Fault.ITEM: Away.GONE,
    Fault.BATCH: Away.GONE,
    Fault.UNNAMED: Away.GONE,
}


def may_yet_name_files(batch: ProviderBatch) -> bool:
    """Tell whether a batch has ended without naming its output although it may have answered something.

    A batch without an id was called off before it was created. Absent counts say nothing. A batch that completed has
    every request in one of its files; of a batch that ended otherwise, only completed requests were paid for.
    """
    if not batch.id or not batch.ended or batch.output_ref is not None:
        return False
    counts = batch.counts
    match batch.status:
        case ProviderStatus.COMPLETED:
            if counts.completed is None or counts.completed > 0:
                return True
            failed = counts.failed or 0
            accounted_for = failed if batch.error_ref is not None else 0
            return max(counts.total or 0, failed) > accounted_for
        case ProviderStatus.FAILED:
            return batch.may_have_run and not took_none(batch)
        case _:
            return counts.completed is None or counts.completed > 0


def waits_for_names(row: BatchRow, seen: ProviderBatch, now: datetime) -> bool:
    """Tell whether an ended batch is looked at again before its lines count as missing."""
    return may_yet_name_files(seen) and (row.unnamed_since is None or now < row.unnamed_since + NAMED_WITHIN)


def why_away(error: ProviderRefused | Unreachable) -> Away | None:
    """Return why a file could not be read. None: the account or its key is at fault, and not the file."""
    match error:
        case KeyUnreadable() | KeyStoreAway():
            return None
        case Unsendable():
            return Away.BARRED
        case Garbled():
            return Away.GONE
        case BrokenOff():
            return Away.KEPT_BACK
        case Unreachable():
            return Away.UNWELL
        case ProviderRefused() if only_forbidden(error.error):
            return Away.BARRED
        case ProviderRefused():
            return _AWAY_FOR[fault_of_batch(error.error)]


def stops_account(error: ProviderRefused | Unreachable) -> bool:
    """Tell whether nothing is to be had from this provider until an operator acts. A look or a download that is merely
    forbidden says nothing about calls."""
    return isinstance(error, Unsendable) or why_away(error) is None


def may_be_left(row: BatchRow, error: ProviderRefused | Unsendable, now: datetime) -> bool:
    """Tell whether the provider refused for so long to delete a batch's files that they are left to expire there."""
    waited = row.collected_at is not None and now >= row.collected_at + PATIENCE[Away.UNWELL]
    return waited and why_away(error) is not None


def lost(row: BatchRow) -> str | None:
    """Return why lines that are in no file may have been answered all the same, or None."""
    given_up = next((each for each in row.away if each.given_up), None)
    if given_up is not None:
        return f"its result file {given_up.ref} could not be had: {given_up.reason}"
    if row.unnamed_since is not None and row.provider_batch is not None and row.provider_batch.output_ref is None:
        return "its batch ended and never named the file with its answers"
    return None


def since_when(row: BatchRow, ref: str, why: Away, now: datetime) -> datetime:
    """Return since when this file is away for this reason."""
    known = next((each for each in row.away if each.ref == ref and each.why == why), None)
    return now if known is None else known.since


def in_reading_order(row: BatchRow, refs: tuple[str, ...]) -> list[str]:
    """Return the files in the order in which they are read: those that once could not be had come last. So what an
    earlier reading settled without them comes first again. A download that broke had its lines in their place."""
    late = {each.ref for each in row.away if each.why is not Away.KEPT_BACK}
    return sorted(refs, key=late.__contains__)


def given_up_at(file: AwayFile) -> datetime:
    """Return when a file that stays away is given up."""
    return file.since + PATIENCE[file.why]
