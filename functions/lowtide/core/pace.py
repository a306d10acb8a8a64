"""The one function that moves a pace row: moments granted to calls, and what calls came to.

::

    closed ──failures in a row, or the account refused──▶ open ──Take, once it has cooled down──▶ half open
       ▲                                                    ▲                                        │
       │                                                    └──────── the probe failed ──────────────┤
       └──────────────────────────────────── the probe was answered ─────────────────────────────────┘

Rows move by ports.Rows like tasks: decided here, written on condition. What a function took and did not use before it
died is gone with its moment.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from . import breaker, cuts, rates
from .pace_events import CallEnd, Held, PaceDecision, PaceEvent, PaceVerdict, Sign, Take, Tell
from .pace_rows import Breaker, PaceRow
from .past import heard


def born(key: str, now: datetime) -> PaceRow:
    """A row that nobody has told anything: the bucket is as full as the rate allows."""
    level = rates.MOST_PER_MINUTE
    return PaceRow(
        key=key,
        born_at=now,
        levelled_at=now,
        recent_since=now,
        answers_since=now,
        level=level,
        token_level=level,
    )


def transition(row: PaceRow | None, event: PaceEvent, now: datetime) -> PaceDecision:
    """What ``event`` does to ``row`` at ``now``. Total; the first event makes the row."""
    before = row
    row = born(event.key, now) if row is None else row
    row = _told(row, event, now)
    match event:
        case Tell():
            verdict = PaceVerdict.REPEATED if row == before else PaceVerdict.APPLIED
            return PaceDecision(verdict, row, changed=row != before)
        case Take():
            return replace(_take(before, row, event, now), granted_at=cuts.grant_stamp(row, now))
        case _:
            assert_never(event)


def _take(before: PaceRow | None, row: PaceRow, event: Take, now: datetime) -> PaceDecision:
    if row.state is not Breaker.CLOSED:
        if breaker.may_probe(row, now):
            row = breaker.probing(row, event.call, now + timedelta(seconds=event.probe_s))
            return PaceDecision(
                PaceVerdict.APPLIED,
                row,
                changed=True,
                moments=(now,),
                later=breaker.ask_again_at(row, now),
                held=Held.BREAKER,
                probe=True,
            )
        return _later(before, row, breaker.ask_again_at(row, now), Held.BREAKER)
    for until, held in ((row.not_before, Held.RATE), (row.flex_not_before if event.flex else None, Held.FLEX)):
        if until is not None and until > now:
            return _later(before, row, until, held)
    trial = event.flex and rates.on_trial(row)
    tokens = event.tokens[:1] if trial else event.tokens
    drawn, moments, later = rates.drawn(row, tokens, event.horizon_s, event.ceiling, now, urgent=event.urgent)
    if not moments:
        return _later(before, row, later or now, Held.RATE)
    if trial:
        drawn = rates.trying_flex(drawn, moments[0])
        later = drawn.flex_not_before
        return PaceDecision(PaceVerdict.APPLIED, drawn, changed=True, moments=moments, later=later, held=Held.FLEX)
    held_ = Held.RATE if later is not None else None
    return PaceDecision(PaceVerdict.APPLIED, drawn, changed=True, moments=moments, later=later, held=held_)


def _later(before: PaceRow | None, row: PaceRow, until: datetime, held: Held) -> PaceDecision:
    return PaceDecision(PaceVerdict.LATER, row, changed=row != before, later=until, held=held)


def _told(row: PaceRow, event: PaceEvent, now: datetime) -> PaceRow:
    for end in event.told:
        before = rates.learnt(row, end)
        if row.requests_limit is None and before.requests_limit is not None:
            before = cuts.learnt_anew(before, now)
        row = _ended(before, end, now)
        row = heard(before, row, end, now)
    return cuts.counted(row, event.told, event.begun, event.ceiling, now)


def _ended(row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    match end.sign:
        case Sign.ANSWERED:
            return breaker.closed_by(rates.flowing(row, end), end, now)
        case Sign.LIMITED:
            # Too fast, but there.
            return breaker.closed_by(row, end, now)
        case Sign.NO_CAPACITY:
            return rates.no_flex(breaker.closed_by(row, end, now), end, now, stalled=False)
        case Sign.STALLED:
            # Says nothing of the model; a probe that stalled has not seen it answer.
            return rates.no_flex(breaker.put_back(row, end, now), end, now, stalled=True)
        case Sign.DOWN | Sign.FAILED:
            return breaker.opened_by(row, end, now)
        case Sign.REFUSED:
            return breaker.refused(row, end, now)
        case Sign.DOUBTED:
            return breaker.doubted(row, end, now)
        case Sign.CLEARED:
            return breaker.cleared(row, end)
        case Sign.PRESENT:
            return breaker.present(row, now)
        case Sign.ABSENT:
            return breaker.absent(row, end, now)
        case Sign.UNUSED:
            return breaker.put_back(row, end, now)
        case _:
            assert_never(end.sign)
