"""How fast a model may be called: a bucket that may be drawn on ahead of time, and a rate that learns from 429s.

A call is granted a moment. The moments of all functions come from one row and are no closer together than the rate
says, so that more functions are not more calls. A moment that nobody uses is lost, and nothing else is.

The rate is a function of the last cut and of time (additive increase, multiplicative decrease): from ``CUT`` of what
was too much back to it in ``climb_s``, then slowly and then faster beyond, up to the ceiling. What cuts it is
core/cuts.py.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import exp, sqrt

from .model import LONGEST_S
from .outcomes import backoff_s
from .pace_events import CallEnd, Ceiling
from .pace_rows import PaceRow

MINUTE_S = 60.0

HEADROOM = 0.97
"""Of the provider's own limit is used: its clock and its count of a minute are not ours."""

FIRST_PER_MINUTE = 1_200.0
"""Where nothing is known of a limit. Doubles every second until a 429 comes: a server without limits is soon called as
fast as there are slots, and one with a limit tells it with its first answer."""
MOST_PER_MINUTE = 600_000.0
LEAST_PER_MINUTE = 1.0
MOST_BELIEVED = 1e12
"""A limit beyond it, of requests or of tokens, is no limit. One below ``LEAST_PER_MINUTE`` says nothing either."""

BURST_S = 1.0
"""As many calls as the rate gives in this time may begin at once after a rest. Providers count in seconds too."""

MOST_OWED_MIN = 5
"""Minutes of a model's tokens that one call may draw ahead. It says itself how many it wants, and the provider refuses
it at once where that is more than a minute's; the calls behind it should not wait for hours."""

EXPRESS_SHARE = 0.2
"""Of the rate may urgent calls begin at once while others have drawn the bucket ahead of time. Spaced evenly, those
leave what a provider allows in a burst unused; afterwards they wait for it."""

CUT = 0.85
CLIMB_S, SLOW_BELOW, SLOWEST_CLIMB = 40.0, 400.0, 2.5
"""From a cut back to the rate that was too high; up to so many times as long below so many calls a minute."""

RAMP_FROM, RAMP_S = 0.1, 4.0
"""After a pause a tenth of the rate, which doubles every second."""
LEAST_ON_RAMP = 12.0

FADE_S = 5.0
"""The age in which a call counts a third in ``recent``."""
REST_S = 30.0
"""After this long without a call, what was called before says nothing about now."""

QUICK_BASE_S = 2.0
QUICK_CAP_S = 30.0
"""Waits after flex had no capacity and said so at once: trying again is cheap."""
TRIAL_S = 5.0
"""Flex that refused is tried by one call at a time, this long apart until one of them is answered: a refusal comes at
once, and who waits for flex pays with time alone only as long as nobody claims tasks in vain."""
STALL_BASE_S = 60.0
STALL_CAP_S = 900.0
"""Waits after a flex call that took minutes and brought nothing: it had a slot all the while."""


def per_minute(row: PaceRow, ceiling: Ceiling, now: datetime) -> float:
    """Calls that may begin in the minute from ``now``, if nothing changes."""
    rate = allowed(row, ceiling, now)
    if row.resumed_at is None:
        return rate
    back_s = (now - row.resumed_at).total_seconds()
    if back_s >= RAMP_S:
        return rate
    doubled: float = RAMP_FROM * 2.0 ** max(0.0, back_s)
    return min(rate, max(LEAST_ON_RAMP, rate * doubled))


def allowed(row: PaceRow, ceiling: Ceiling, now: datetime) -> float:
    """The same, were there no pause to come back from."""
    most = known_most(row, ceiling)
    if row.peak is None or row.cut_at is None:
        if most is not None:
            return max(LEAST_PER_MINUTE, most)
        started_at = row.started_at or row.born_at
        doubled: float = 2.0 ** min(20.0, seconds_between(started_at, now) / row.doubling_s)
        return min(MOST_PER_MINUTE, (row.start or FIRST_PER_MINUTE) * doubled)
    climbed = seconds_between(row.cut_at, now) / climb_s(row.peak)
    share = CUT + (1 - CUT) * climbed if climbed <= 1 else 1 + (climbed - 1) ** 2
    return max(LEAST_PER_MINUTE, min(most or MOST_PER_MINUTE, row.peak * share))


def climb_s(peak: float) -> float:
    """How long it takes from a cut back to ``peak``: longer at a low rate, where a 429 weighs more."""
    return CLIMB_S * min(SLOWEST_CLIMB, max(1.0, sqrt(SLOW_BELOW / peak)))


def known_most(row: PaceRow, ceiling: Ceiling) -> float | None:
    """What routes and the provider's headers allow a minute; None if neither says."""
    return _least(ceiling.requests, _used(row.requests_limit))


def tokens_per_minute(row: PaceRow, ceiling: Ceiling) -> float | None:
    most = _least(ceiling.tokens, _used(row.tokens_limit))
    return None if most is None else max(LEAST_PER_MINUTE, most)


def levelled(row: PaceRow, ceiling: Ceiling, now: datetime) -> PaceRow:
    """The row with what has flowed in since it was last looked at."""
    now = max(now, row.levelled_at)  # clocks differ by a little
    passed_s = seconds_between(row.levelled_at, now)
    rate, token_rate = per_minute(row, ceiling, now) / MINUTE_S, tokens_per_minute(row, ceiling)
    token_level = 0.0
    if token_rate is not None:
        token_level = min(token_rate / MINUTE_S * BURST_S, row.token_level + token_rate / MINUTE_S * passed_s)
    rested = passed_s > REST_S
    return row.model_copy(
        update={
            "level": min(max(1.0, rate * BURST_S), row.level + rate * passed_s),
            "token_level": token_level,
            "express": min(max(1.0, rate * EXPRESS_SHARE * BURST_S), row.express + rate * EXPRESS_SHARE * passed_s),
            "levelled_at": now,
            "recent": 0.0 if rested else row.recent * exp(-passed_s / FADE_S),
            "recent_since": now if rested else row.recent_since,
        }
    )


def drawn(
    row: PaceRow, tokens: tuple[int, ...], horizon_s: float, ceiling: Ceiling, now: datetime, *, urgent: bool = False
) -> tuple[PaceRow, tuple[datetime, ...], datetime | None]:
    """A moment for each call as far as they lie within the horizon, and when there will be one for the next.

    A call of more tokens than a minute has is let through alone: waiting would not make it smaller. An ``urgent`` one
    does not wait for calls that were granted their moments before it, within ``EXPRESS_SHARE``.
    """
    row = levelled(row, ceiling, now)
    rate, token_rate = per_minute(row, ceiling, now) / MINUTE_S, tokens_per_minute(row, ceiling)
    level, token_level, express = row.level, row.token_level, row.express
    moments: list[datetime] = []
    later = None
    for needed in tokens:
        wait_s = max(0.0, (1 - level) / rate)
        if token_rate is not None and token_level < 0:
            wait_s = max(wait_s, -token_level / token_rate * MINUTE_S)
        elif urgent and wait_s > 0 and express >= 1:
            wait_s, express = 0.0, express - 1
        if wait_s > horizon_s:
            later = now + timedelta(seconds=min(LONGEST_S, wait_s - horizon_s))
            break
        moments.append(now + timedelta(seconds=wait_s))
        level -= 1
        token_level -= needed if token_rate is None else min(needed, MOST_OWED_MIN * token_rate)
    spent = {"level": level, "token_level": token_level, "express": express, "recent": row.recent + len(moments)}
    return row.model_copy(update=spent), tuple(moments), later


def believed(limit: float | None) -> float | None:
    """Return a limit that a provider's header names, if it can be one: a few headers hold any number."""
    return limit if limit is not None and LEAST_PER_MINUTE <= limit <= MOST_BELIEVED else None


def learnt(row: PaceRow, end: CallEnd) -> PaceRow:
    """What the provider's headers say."""
    told = end.headroom
    if told is None:
        return row
    changes: dict[str, float] = {}
    requests_limit, tokens_limit = believed(told.requests_limit), believed(told.tokens_limit)
    if requests_limit is not None and requests_limit != row.requests_limit:
        changes["requests_limit"] = requests_limit
        if row.requests_limit is None:
            # Until now a guess was drawn on: what it allowed ahead of time is not owed.
            changes["level"] = max(row.level, 0.0)
    if tokens_limit is not None and tokens_limit != row.tokens_limit:
        changes["tokens_limit"] = tokens_limit
    return row.model_copy(update=changes) if changes else row


def no_flex(row: PaceRow, end: CallEnd, now: datetime, *, stalled: bool) -> PaceRow:
    """Flex has no capacity: that lane rests, shortly where it said so at once, and the model's rate stays."""
    if row.flex_refused_at is not None and end.granted_at <= row.flex_refused_at:
        return row
    times = row.flex_refused + 1
    base_s, cap_s = (STALL_BASE_S, STALL_CAP_S) if stalled else (QUICK_BASE_S, QUICK_CAP_S)
    wait_s = max(end.retry_after_s or 0.0, backoff_s(times, base_s=base_s, cap_s=cap_s, seed=row.key))
    until = now + timedelta(seconds=wait_s)
    return row.model_copy(update={"flex_refused": times, "flex_refused_at": now, "flex_not_before": until})


def on_trial(row: PaceRow) -> bool:
    """Has flex not answered since it last refused?"""
    return row.flex_refused > 0


def trying_flex(row: PaceRow, at: datetime) -> PaceRow:
    """One call goes to see, ``at``; the next waits for what it finds."""
    return row.model_copy(update={"flex_not_before": at + timedelta(seconds=TRIAL_S)})


def flowing(row: PaceRow, end: CallEnd) -> PaceRow:
    """Forget the refusals of flex at an answer that came on flex."""
    if end.flex and row.flex_refused and (row.flex_refused_at is None or end.granted_at > row.flex_refused_at):
        return row.model_copy(update={"flex_refused": 0, "flex_not_before": None})
    return row


def called(row: PaceRow, now: datetime) -> float:
    """Calls a minute that were granted of late."""
    counted_s = FADE_S * (1 - exp(-max(1.0, seconds_between(row.recent_since, now)) / FADE_S))
    return row.recent * exp(-seconds_between(row.levelled_at, now) / FADE_S) / counted_s * MINUTE_S


def _used(limit: float | None) -> float | None:
    """Return how much of the provider's own limit is used."""
    known = believed(limit)
    return None if known is None else known * HEADROOM


def _least(*rates: float | None) -> float | None:
    return min((rate for rate in rates if rate is not None), default=None)


def seconds_between(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
