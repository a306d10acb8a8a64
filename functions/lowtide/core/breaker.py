"""The breaker: a provider that does not answer, or an account that is refused, is left alone and looked at by single
calls until it answers.

It opens on failures in a row. Three are enough if no call was answered lately. They must be of three different tasks,
because one task may be at fault itself, unless the provider speaks of itself. If many calls were answered a moment ago
it takes up to ten, so that a share of errors does not open it.

A few tasks that always fail look like an outage if no other task calls the model. So the provider is asked a question
that buys nothing (``GET /models``). If it answers, failures of few tasks do not open the breaker, and they count as
tries.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from .pace_events import CallEnd, Sign
from .pace_rows import Breaker, PaceRow

WITNESSES = 3
"""Failures of different tasks that are believed where nobody was answered of late."""
FEW = 4
"""Up to this many failing tasks may all be at fault themselves. If more fail, the provider is taken to be at fault."""
PATIENCE = timedelta(hours=4)
"""Longest time that failures of many tasks pass for an outage although the provider answers ``GET /models``. After it,
tasks have their last try: what fails for ever has to end."""
MOST_FAILURES = 10
"""Failures in a row that are believed however many were answered just before."""
LATELY_S = 10.0
"""Answers older than this are forgotten."""

COOLDOWN_S = 5.0
COOLDOWN_CAP_S = 60.0
"""From an opening to the next probe, doubling from the one to the other."""
SPARED_CAP_S = 600.0
"""Longest wait between two probes by tasks that failed before. Each task may be bought only a few times, and these
calls have to last for the whole outage."""
LONGEST_SPREAD_S = 2 * 86_400.0
"""Longest wait between two calls of one task. A queue keeps a message for ten days."""
BLIND_FIRST, BLIND_EVERY = 4, 10
"""Openings in a row after which a probe is made although the provider does not answer ``GET /models``. The
fourth one is 75 s after the first; later ones are a minute apart."""
ACCOUNT_COOLDOWN_S = 60.0
ACCOUNT_CAP_S = 300.0
"""The same for a refused account: an operator has to act first."""
DOUBT_COOLDOWN_S = 2.0
MOST_DOUBTS = 3
"""Unnamed refusals in a row that put an account in doubt, and openings in a row that turn the doubt into a refusal.
Calls that began together are refused together, and count once."""


def closed_by(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """Take in an answer. While the breaker is not closed only the probe's answer counts, because other calls began
    before it opened. An account that is only in doubt is cleared by any answer."""
    if row.state is not Breaker.CLOSED:
        if end.call != row.probe and not _in_doubt(row):
            return row
        shut = {"state": Breaker.CLOSED, "opened_at": None, "closed_at": now, "retry_at": None, "opens": 0}
        return _answered(row.model_copy(update=shut | _NO_PROBE), end, now)
    return _answered(row, end, now)


def opened_by(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """A failure. While the breaker is open, and of calls from before it closed, only the probe's is news."""
    if row.state is not Breaker.CLOSED:
        if end.call != row.probe:
            return row
        return _open(row.model_copy(update={"witnesses": _with_witness(row, end)}), now)
    if forgives(row, end.granted_at):
        return row
    seen = _with_witness(row, end)
    failures = row.failures + 1
    row = row.model_copy(update={"failures": failures, "witnesses": seen})
    enough = len(seen) >= WITNESSES or end.sign is Sign.DOWN
    answered = row.answers if answered_lately(row, now) else 0
    believed = enough and failures >= min(MOST_FAILURES, max(WITNESSES, answered))
    return _open(row, now) if believed and not must_stay_closed(row, now) else row


def suspicious(row: PaceRow | None, end: CallEnd, now: datetime) -> bool:
    """Would this failure open the breaker although only few tasks have failed?"""
    if row is None or row.state is not Breaker.CLOSED:
        return False
    after = opened_by(row, end, now)
    return after.state is not Breaker.CLOSED and len(after.witnesses) <= FEW


def must_stay_closed(row: PaceRow, now: datetime) -> bool:
    """Must the breaker stay closed? Yes if the provider is there and only few tasks fail, or if ``PATIENCE`` is
    over."""
    if row.present_since is None:
        return False
    return len(row.witnesses) <= FEW or now - row.present_since >= PATIENCE


def present(row: PaceRow, now: datetime) -> PaceRow:
    """The provider answered ``GET /models``. That closes the breaker unless many tasks fail."""
    row = row.model_copy(update={"present_since": row.present_since or now})
    if row.state is Breaker.CLOSED or not must_stay_closed(row, now):
        return row
    shut: dict[str, object] = {"state": Breaker.CLOSED, "opened_at": None, "retry_at": None, "opens": 0}
    return row.model_copy(update=shut | _NO_PROBE)


def absent(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """The provider did not answer ``GET /models``. That opens the breaker without a second witness."""
    row = row.model_copy(update={"present_since": None})
    if row.state is Breaker.CLOSED:
        return row if answered_lately(row, now) else _open(row, now)
    return _open(row, now) if end.call == row.probe else row


def answered_lately(row: PaceRow, now: datetime) -> bool:
    """Was a call of the model answered in the last ``LATELY_S``?"""
    return row.answers > 0 and (now - row.answers_since).total_seconds() <= LATELY_S


def forgives(row: PaceRow, granted_at: datetime) -> bool:
    """Is a failure of a call that began then the outage's, so that it uses up none of its task's tries?"""
    return row.state is not Breaker.CLOSED or (row.closed_at is not None and granted_at <= row.closed_at)


def refused(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """The account's word needs no second witness."""
    if end.call != row.probe and forgives(row, end.granted_at) and not _in_doubt(row):
        return row
    row = row.model_copy(update={"doubted_at": None})
    return _open(row, now, base_s=ACCOUNT_COOLDOWN_S, cap_s=ACCOUNT_CAP_S)


def doubted(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """Take in a refusal that does not name its request. The task may be at fault itself, and calls under way may still
    be answered. So the account is closed for seconds only, and single calls probe it."""
    seen = _with_witness(row, end)
    if row.state is not Breaker.CLOSED:
        row = row.model_copy(update={"witnesses": seen})
        if end.call != row.probe:
            return row
        base_s = DOUBT_COOLDOWN_S if row.opens + 1 < MOST_DOUBTS else ACCOUNT_COOLDOWN_S
        return _open(row.model_copy(update={"doubted_at": now}), now, base_s=base_s, cap_s=ACCOUNT_CAP_S)
    # Calls that began together are refused together, and count as one refusal.
    news = row.failures == 0 or row.doubted_at is None or end.granted_at > row.doubted_at
    changes = {"witnesses": seen, "failures": row.failures + news, "doubted_at": now if news else row.doubted_at}
    row = row.model_copy(update=changes)
    # On an account that answered before, the refusals of one task hold back that task alone.
    several = row.proven_at is None or len(seen) > 1
    believed = several and (len(seen) >= WITNESSES or row.failures >= MOST_DOUBTS)
    return _open(row, now, base_s=DOUBT_COOLDOWN_S, cap_s=ACCOUNT_CAP_S) if believed else row


def cleared(row: PaceRow, end: CallEnd) -> PaceRow:
    """End the doubt: the refused request itself was at fault. ``end.witness`` is no witness any more; the others are
    kept until a call is answered."""
    if row.active and not _in_doubt(row):
        return row
    others = tuple(witness for witness in row.witnesses if witness != end.witness)
    well: dict[str, object] = {"state": Breaker.CLOSED, "opened_at": None, "retry_at": None, "opens": 0}
    return row.model_copy(update=well | _NO_PROBE | {"failures": 0, "witnesses": others, "doubted_at": None})


def refuses(row: PaceRow | None) -> bool:
    """Is the account refused, and not only in doubt?"""
    return row is not None and row.active and not _in_doubt(row)


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


def buys_blind(row: PaceRow, *, last: bool) -> bool:
    """May a probe be made although the provider did not answer ``GET /models``? Not every server does. So one probe is
    made after a minute, and then one every ten minutes. A task's last call is never used for it."""
    return not last and (row.opens == BLIND_FIRST or (row.opens > 0 and row.opens % BLIND_EVERY == 0))


def rests_until(row: PaceRow | None, now: datetime, *, last: bool) -> datetime | None:
    """Return until when a task that failed before must not probe this model. Return None if it may probe now.
    ``last``: the task has one call left. That call waits until another task was answered."""
    if row is None or not row.active or row.present_since is None or must_stay_closed(row, now):
        return None
    if last:
        return row.present_since + PATIENCE
    longer_s = min(SPARED_CAP_S, COOLDOWN_S * 2.0 ** min(row.opens, 20)) - COOLDOWN_CAP_S
    until = (row.retry_at or now) + timedelta(seconds=max(0.0, longer_s))
    return until if until > now else None


def spread_s(calls_left: int, left_s: float) -> float:
    """Return how long a task waits whose provider is down, before a call that may be its last but ``calls_left - 1``.
    The last one is made at the deadline, which is ``left_s`` away: an outage of one model may last, although the
    provider answers ``GET /models``."""
    return min(LONGEST_SPREAD_S, max(0.0, left_s) / max(1, calls_left) ** 2)


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
    }
    return row.model_copy(update=changes | _NO_PROBE)


def _answered(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    fresh = (now - row.answers_since).total_seconds() <= LATELY_S
    changes: dict[str, object] = {
        "answers": (row.answers if fresh else 0) + end.count,
        "answers_since": row.answers_since if fresh else now,
        "failures": 0,
        "witnesses": (),
        "present_since": None,
    }
    if end.unseen:
        changes["mute"] = True
    if row.of_account:
        began_at = end.began_at or end.granted_at
        changes |= {"doubted_at": None, "proven_at": max(row.proven_at or began_at, began_at)}
    return row.model_copy(update=changes)


def _with_witness(row: PaceRow, end: CallEnd) -> tuple[str, ...]:
    return tuple(sorted({*row.witnesses, end.witness or end.call}))[: FEW + 1]


def _in_doubt(row: PaceRow) -> bool:
    """Is the breaker open for unnamed refusals only? Then any answer closes it."""
    return row.doubted_at is not None and 0 < row.opens < MOST_DOUBTS
