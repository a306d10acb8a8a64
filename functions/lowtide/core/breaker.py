"""The breaker: a provider that does not answer, or an account that is refused, is left alone and looked at by single
calls until it answers.

It opens on failures in a row. As few as three are enough where nobody is answered: of three different tasks, because
one task may be at fault itself, unless the provider speaks of itself. Where many were answered a moment ago it
takes up to ten, so that a share of errors opens nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from .pace_events import CallEnd, Sign
from .pace_rows import Breaker, PaceRow

WITNESSES = 3
"""Failures of different tasks that are believed where nobody was answered of late."""
MOST_FAILURES = 10
"""Failures in a row that are believed however many were answered just before."""
LATELY_S = 10.0
"""Answers older than this are forgotten."""

COOLDOWN_S = 5.0
COOLDOWN_CAP_S = 60.0
"""From an opening to the next probe, doubling from the one to the other."""
ACCOUNT_COOLDOWN_S = 60.0
ACCOUNT_CAP_S = 300.0
"""The same for a refused account: an operator has to act first."""


def closed_by(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """An answer. While the breaker is not closed only the probe's counts: others have been under way since before."""
    if row.state is not Breaker.CLOSED:
        if end.call != row.probe:
            return row
        shut = {"state": Breaker.CLOSED, "opened_at": None, "closed_at": now, "retry_at": None, "opens": 0}
        return _answered(row.model_copy(update=shut | _NO_PROBE), end, now)
    return _answered(row, end, now)


def opened_by(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """A failure. While the breaker is open, and of calls from before it closed, only the probe's is news."""
    if row.state is not Breaker.CLOSED:
        return _open(row, now) if end.call == row.probe else row
    if forgives(row, end.granted_at):
        return row
    witness = end.witness if end.sign is Sign.FAILED else end.call
    seen = tuple(sorted({*row.witnesses, witness})[:WITNESSES])
    failures = row.failures + 1
    row = row.model_copy(update={"failures": failures, "witnesses": seen})
    answered = row.answers if (now - row.answers_since).total_seconds() <= LATELY_S else 0
    believed = len(seen) >= WITNESSES and failures >= min(MOST_FAILURES, max(WITNESSES, answered))
    return _open(row, now) if believed else row


def forgives(row: PaceRow, granted_at: datetime) -> bool:
    """Is a failure of a call that began then the outage's, so that it uses up none of its task's tries?"""
    return row.state is not Breaker.CLOSED or (row.closed_at is not None and granted_at <= row.closed_at)


def refused(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """The account's word needs no second witness."""
    if end.call != row.probe and forgives(row, end.granted_at):
        return row
    return _open(row, now, base_s=ACCOUNT_COOLDOWN_S, cap_s=ACCOUNT_CAP_S)


def put_back(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """A probe that was not made: the next one may be at once."""
    if end.call != row.probe:
        return row
    return row.model_copy(update={"state": Breaker.OPEN, "retry_at": now} | _NO_PROBE)


def may_probe(row: PaceRow, now: datetime) -> bool:
    """Exactly one at a time; the lease of one that died with its process runs out."""
    match row.state:
        case Breaker.CLOSED:
            return False
        case Breaker.OPEN:
            return row.retry_at is None or now >= row.retry_at
        case Breaker.HALF_OPEN:
            return row.probe_until is None or now >= row.probe_until


def probing(row: PaceRow, call: str, until: datetime) -> PaceRow:
    return row.model_copy(update={"state": Breaker.HALF_OPEN, "probe": call, "probe_until": until})


def ask_again_at(row: PaceRow, now: datetime) -> datetime:
    """When it is worth asking again, while the breaker is not closed."""
    soon = now + timedelta(seconds=COOLDOWN_S)
    if row.state is Breaker.HALF_OPEN:
        return soon if row.probe_until is None else min(row.probe_until, soon)
    return soon if row.retry_at is None else row.retry_at


_NO_PROBE: dict[str, object] = {"probe": None, "probe_until": None}


def _open(row: PaceRow, now: datetime, *, base_s: float = COOLDOWN_S, cap_s: float = COOLDOWN_CAP_S) -> PaceRow:
    wait_s = min(cap_s, base_s * 2.0 ** min(row.opens, 20))
    changes: dict[str, object] = {
        "state": Breaker.OPEN,
        "opened_at": row.opened_at if row.state is not Breaker.CLOSED else now,
        "retry_at": now + timedelta(seconds=wait_s),
        "opens": row.opens + 1,
        "failures": 0,
        "witnesses": (),
    }
    return row.model_copy(update=changes | _NO_PROBE)


def _answered(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    fresh = (now - row.answers_since).total_seconds() <= LATELY_S
    changes = {
        "answers": (row.answers if fresh else 0) + end.count,
        "answers_since": row.answers_since if fresh else now,
        "failures": 0,
        "witnesses": (),
    }
    return row.model_copy(update=changes)
