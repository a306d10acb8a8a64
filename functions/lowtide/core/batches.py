"""A batch's row, and the one function that moves it.

::

    (none) ──Start──▶ open ──Seal──▶ sealed ──Upload──▶ uploading ──Intend──▶ submitting ──Run──▶ running
                                       ▲                                          │ ▲
                                       │                       Intend again, past ├─┘
                                       │                       the grace          ▼
                                       └──── Return ──── (uploading, submitting, running)

    running ──Collect──▶ collecting ──Clean──▶ cleaning ──Done──▶ done
                           ↺ Checkpoint: a shard more is settled; Miss: a file could not be read

    uploading, submitting, collecting, cleaning ──Postpone──▶ the same, later

    open … running ──Stop──▶ the same, on its way to an early end
    sealed … running ──Rescue──▶ the same, to be cancelled for a deadline

Intent comes first, then the call: ``submitting`` is written before the provider is asked to create. Whoever wakes in
``submitting`` looks at the provider before creating, waits out a grace period and intends again. ``Return`` takes a
submission back whole, with a new number, so that a look-up does not find the old one; from ``submitting`` only where
the provider's refusal says that nothing was made. Every event but ``Start``, ``Keep`` and an operator's ``Stop`` names
the lease it acts under, and every write is conditional on ``rev`` as well.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

from .batch_events import (
    BatchDecision,
    BatchEvent,
    BatchVerdict,
    Checkpoint,
    Clean,
    Collect,
    Done,
    Intend,
    Keep,
    Lease,
    Miss,
    Postpone,
    Rescue,
    Return,
    Run,
    Seal,
    Seen,
    Start,
    Stop,
    Upload,
)
from .batch_rows import (
    NOT_ASKED_FOR,
    TERMINAL,
    Away,
    AwayFile,
    BatchRow,
    BatchState,
    BatchTally,
    Made,
    Progress,
    ProviderBatch,
    ProviderStatus,
    RequestCounts,
    Unanswered,
    ValidationFault,
)

__all__ = [
    "GRACE",
    "NOT_ASKED_FOR",
    "TERMINAL",
    "Away",
    "AwayFile",
    "BatchDecision",
    "BatchEvent",
    "BatchRow",
    "BatchState",
    "BatchTally",
    "BatchVerdict",
    "Checkpoint",
    "Clean",
    "Collect",
    "Done",
    "Intend",
    "Keep",
    "Lease",
    "Made",
    "Miss",
    "Postpone",
    "Progress",
    "ProviderBatch",
    "ProviderStatus",
    "RequestCounts",
    "Rescue",
    "Return",
    "Run",
    "Seal",
    "Seen",
    "Start",
    "Stop",
    "Unanswered",
    "Upload",
    "ValidationFault",
    "may_intend_again",
    "transition",
]


_FROM: dict[type, frozenset[BatchState]] = {
    Seal: frozenset({BatchState.OPEN}),
    Upload: frozenset({BatchState.SEALED, BatchState.UPLOADING}),
    Intend: frozenset({BatchState.UPLOADING, BatchState.SUBMITTING}),
    Run: frozenset({BatchState.SUBMITTING}),
    Seen: frozenset({BatchState.RUNNING}),
    Postpone: frozenset({BatchState.UPLOADING, BatchState.SUBMITTING, BatchState.COLLECTING, BatchState.CLEANING}),
    Return: frozenset({BatchState.UPLOADING, BatchState.SUBMITTING, BatchState.RUNNING}),
    Rescue: frozenset({BatchState.SEALED, BatchState.UPLOADING, BatchState.SUBMITTING, BatchState.RUNNING}),
    Collect: frozenset({BatchState.RUNNING, BatchState.COLLECTING}),
    Miss: frozenset({BatchState.COLLECTING}),
    Checkpoint: frozenset({BatchState.COLLECTING}),
    Clean: frozenset({BatchState.COLLECTING}),
    Done: frozenset({BatchState.OPEN, BatchState.CLEANING}),
}


_ENDED = frozenset({BatchState.COLLECTING, BatchState.CLEANING, BatchState.DONE})


def transition(row: BatchRow | None, event: BatchEvent, now: datetime) -> BatchDecision:
    """What ``event`` does to ``row`` at ``now``. Total: every state takes every event."""
    if isinstance(event, Start):
        if row is None:
            return BatchDecision(BatchVerdict.APPLIED, event.batch, changed=True)
        return BatchDecision(BatchVerdict.REPEATED, row)
    if row is None:
        return BatchDecision(BatchVerdict.REFUSED, None)
    if isinstance(event, Stop):
        return _stop(row, event)
    if isinstance(event, Keep):
        return _keep(row, event)
    if isinstance(event, Lease):
        if row.state is BatchState.DONE:
            return BatchDecision(BatchVerdict.REFUSED, row)
        free = row.lease in (None, event.owner) or row.lease_until is None or row.lease_until <= now
        if not free:
            return BatchDecision(BatchVerdict.REFUSED, row)
        held = row.model_copy(update={"lease": event.owner, "lease_until": event.until})
        return BatchDecision(BatchVerdict.APPLIED, held, changed=True)
    if row.lease != event.owner or row.state not in _FROM[type(event)]:
        return BatchDecision(BatchVerdict.REFUSED, row)
    return BatchDecision(BatchVerdict.APPLIED, row.model_copy(update=_changes(row, event, now)), changed=True)


def _stop(row: BatchRow, event: Stop) -> BatchDecision:
    if row.stop is event.unanswered:
        return BatchDecision(BatchVerdict.REPEATED, row)
    if row.state in _ENDED:
        return BatchDecision(BatchVerdict.REFUSED, row)
    # Nobody is to wait for the next look or the next try: there is something to do at once.
    stopped = row.model_copy(update={"stop": event.unanswered, "not_before": None, "next_poll_at": None, "polls": 0})
    return BatchDecision(BatchVerdict.APPLIED, stopped, changed=True)


def _keep(row: BatchRow, event: Keep) -> BatchDecision:
    if not row.active:
        return BatchDecision(BatchVerdict.REFUSED, row)
    if row.kept_at is not None and row.kept_at >= event.at:
        return BatchDecision(BatchVerdict.REPEATED, row)
    return BatchDecision(BatchVerdict.APPLIED, row.model_copy(update={"kept_at": event.at}), changed=True)


def _changes(row: BatchRow, event: BatchEvent, now: datetime) -> dict[str, object]:
    match event:
        case Seal():
            return {
                "state": BatchState.SEALED,
                "file_key": event.file_key,
                "manifest_key": event.manifest_key,
                "requests": event.requests,
                "bytes": event.bytes,
                "tokens": event.tokens,
            }
        case Upload():
            return {"state": BatchState.UPLOADING}
        case Intend():
            return {"state": BatchState.SUBMITTING, "input_ref": event.input_ref, "intent_at": now, "refused": False}
        case Run():
            return {
                "state": BatchState.RUNNING,
                "provider_batch": event.batch,
                "found": row.found or event.found,
                "submitted_at": now,
                "not_before": None,
                "polls": 0,
                "next_poll_at": None,
            }
        case Seen():
            # A batch that has ended is looked at again for the names of its files alone: soon at first, as ever.
            unnamed_since = (row.unnamed_since or now) if event.batch.ended else None
            polls = row.polls + 1 if (unnamed_since is None) is (row.unnamed_since is None) else 1
            seen = {"provider_batch": event.batch, "polls": polls, "next_poll_at": event.next_poll_at}
            return seen | {"unnamed_since": unnamed_since}
        case Postpone():
            put_off = {"not_before": event.not_before, "setbacks": row.setbacks + 1}
            return put_off | {"refused": row.state is BatchState.SUBMITTING and event.made is Made.NOTHING}
        case Return():
            return {
                "state": BatchState.SEALED,
                "submission": row.submission + 1,
                "setbacks": row.setbacks + 1,
                "refusals": row.refusals + event.refused,
                "not_before": event.not_before,
                "refused": False,
                "input_ref": None,
                "intent_at": None,
                "submitted_at": None,
                "provider_batch": None,
                "unnamed_since": None,
            }
        case Rescue():
            # As with an operator's stop, nobody is to wait for the next look or the next try.
            return {"rescued_at": row.rescued_at or now, "not_before": None, "next_poll_at": None, "polls": 0}
        case Collect():
            if row.collected_at is not None:
                return {"provider_batch": event.batch}
            return {
                "state": BatchState.COLLECTING,
                "provider_batch": event.batch,
                # Stamped once: what is written while collecting is a pure function of these.
                "collected_at": now,
                "tries": event.tries,
                "real_time_before": event.real_time_before,
                "held_key": event.held_key,
                "released": event.released,
            }
        case Miss():
            others = tuple(each for each in row.away if each.ref != event.file.ref)
            return {"away": (*others, event.file)}
        case Checkpoint():
            return {"progress": event.progress}
        case Clean():
            return {"state": BatchState.CLEANING, "tally": event.tally}
        case Done():
            return {"state": BatchState.DONE, "done_at": now, "lease": None, "lease_until": None}
        case Start() | Stop() | Keep() | Lease():
            raise AssertionError("handled by transition")
        case _:
            assert_never(event)


GRACE = timedelta(minutes=2)
"""How long a provider's list of batches may lag behind a creation whose reply was lost, with a margin."""


def may_intend_again(row: BatchRow, now: datetime) -> bool:
    """May whoever woke in ``submitting``, and found nothing at the provider, create?"""
    return row.refused or (row.intent_at is not None and now >= row.intent_at + GRACE)
