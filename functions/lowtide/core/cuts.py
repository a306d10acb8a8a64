"""What 429s do to a rate. A share of them says nothing by itself: below a true limit it falls when the rate does, and
a stray share stays. So a cut is a trial, judged by Wald's sequential test, and taken back where it changed nothing.

::

    climbing ──more 429s than stray ones──▶ cut, on trial ──fewer are refused──▶ climbing, from the lower rate
        ▲                                        │
        └──── the rate of before; a stray share ─┘ as many are refused

    anything ──several 429s and no other reply between──▶ paused, for Retry-After ──▶ doubling, back to the rate

Calls are counted by the moment at which they were granted, and an epoch counts only those granted since it began: calls
granted before a change say nothing of it. Source of the test: A. Wald, "Sequential tests of statistical hypotheses",
1945.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log, sqrt

from .outcomes import backoff_s
from .pace_events import Begun, CallEnd, Ceiling, Sign
from .pace_rows import PaceRow, Trial
from .rates import (
    CLIMB_S,
    CUT,
    FIRST_PER_MINUTE,
    LEAST_PER_MINUTE,
    RAMP_S,
    allowed,
    called,
    climb_s,
    known_most,
    per_minute,
    seconds_between,
)

EPOCH_S, EPOCH_CALLS = 30.0, 400
"""When counts begin anew. Two 429s further apart than an epoch are taken for chance."""
ENDED_IN_EPOCH, LONGEST_EPOCH_S = 0.8, 60.0
"""An epoch lasts until so many of its calls have ended, or so long: a share of 429s is known only then."""

TOO_MANY = 2
"""429s beyond the stray ones that cut the rate, and three standard deviations of the stray ones."""

KEPT = 0.97
"""Share of what passed that is the rate after the first cut from a guess."""
DEEPEST_CUT = 0.7
"""From a rate that is more than a guess, or that routes or headers vouch for. It may have been good a moment ago."""
GUESS_DOUBLES_S = 4.0
"""After the first limit that it met, a rate that is a guess doubles in this time, and no more every second."""

SURE_OF_STRAY, SURE_OF_LIMIT = 3.0, 4.5
"""Logarithms of the odds that decide a trial. To wait for the second costs nothing: the rate climbs meanwhile."""
FEWEST_CALLS = 4
FEWEST_BEFORE_CUT = 20
"""Calls before a guess is cut: two refused of ten may be chance, and ten calls say little of the rate."""
FEWEST_ON_TRIAL = 12
"""Calls on the way back from a pause before a trial's rate is cut again: two in three are refused by chance, too."""
MOST_ENDED = 0.5
"""Share of a trial's calls that must have ended before its 429s are taken for stray ones."""
BACK_UP, HALF_WAY = 0.25, 0.5
"""Shares of the climb back at which a trial waits for its end. Higher up a limit may be met again, so a 429 need not be
stray."""
LONGEST_TRIAL = 2.0
"""Times the climb back. What is likelier then is believed."""
ALIKE = 0.75
"""A share below this part of the one before is nearer to a limit, perhaps, and not below it: the cut goes deeper."""
LUCK, SUSPECT = 0.75, 0.45
"""So many standard deviations fewer is no luck. Where more calls than that are refused, ALIKE is not waited for."""
DEEP_ENOUGH = 0.1
"""Part of the rate that met the first 429s. A share that has not fallen to nothing there is stray."""
MOST_STRAY, LEAST_STRAY = 0.6, 0.02
"""With more 429s than that, slower is right, whatever they come from; fewer are not worth a trial."""
TRIED_AGAIN_S, TRIED_AGAIN_CALLS = 30.0, 200
"""How often it is tried whether a stray share is stray: after so many seconds, and after so many calls."""
FEWEST_IN_EPOCH = 30

GRAIN = timedelta(milliseconds=1)
"""Rows keep no less."""

CHANCE = 2e-4
"""A run of 429s, with no other reply between, that is less likely than this among stray ones, stops all calls."""
RAMP_REFUSED = 0.3
"""Share of 429s, on the way back from a pause, with which the storm is not over."""
PAUSE_BASE_S, PAUSE_CAP_S = 1.0, 8.0
"""Pauses that the provider names no time for: doubling from the one to the other."""
STORM_BEGINS_S = 15.0
"""A cut this soon before a storm was the storm's."""
STORM_OVER_S = 30.0
"""After the last pause: what comes later is another storm."""
BACK_S = 20.0
"""For so long after a pause, what was called says nothing of what may be."""


def counted(row: PaceRow, told: Sequence[CallEnd], begun: Sequence[Begun], ceiling: Ceiling, now: datetime) -> PaceRow:
    """Return the row with what one process has to tell: calls that it began, and those of them that got a 429."""
    answered = max((end.granted_at for end in told if end.sign is Sign.ANSWERED), default=None)
    if answered is not None and row.stormed_at is not None and answered > row.stormed_at:
        row = row.model_copy(update={"answered_at": answered})
    if row.resumed_at is not None:
        back_at = row.resumed_at + timedelta(seconds=RAMP_S)
        if row.counted_since is not None and row.counted_since < back_at <= now:
            # What was called slowly on the way back says nothing of the rate.
            row = _epoch(row, back_at)
    refused = [end for end in told if end.sign is Sign.LIMITED and _counts(row, end.granted_at)]
    passed = [end for end in told if end.sign is Sign.ANSWERED and _counts(row, end.granted_at)]
    calls = sum(each.count for each in begun if _counts(row, each.granted_at))
    if not calls and not refused and not passed:
        return row
    counts = {"begun": row.begun + calls, "refused": min(row.begun + calls, row.refused + len(refused))}
    counts["passed"] = min(counts["begun"] - counts["refused"], row.passed + sum(end.count for end in passed))
    if calls > len(refused) or passed:
        after = told[told.index(passed[-1]) :] if passed and calls <= len(refused) else ()
        counts["refused_run"] = sum(end in refused for end in after)
    else:
        counts["refused_run"] = row.refused_run + len(refused)
    row = row.model_copy(update=counts)
    stray = max(row.stray, 0.0 if row.trial is None else row.trial.share)
    if (min(MOST_STRAY, stray) + 0.05) ** row.refused_run < CHANCE:
        if row.refused < row.begun and _excess(row) >= TOO_MANY and not _coming_back(row, ceiling, now):
            row = _cut(row, _share(row), ceiling, now)
        return _paused(row, refused, ceiling, now)
    if not row.begun:
        return row
    if _coming_back(row, ceiling, now):
        goes_on = row.refused >= TOO_MANY and _share(row) >= max(RAMP_REFUSED, 1.5 * row.stray)
        return _paused(row, refused, ceiling, now) if goes_on else row
    return _judged(row, ceiling, now) if row.trial is None else _tried(row, row.trial, ceiling, now)


def grant_stamp(row: PaceRow, now: datetime) -> datetime:
    """Return the moment that calls granted ``now`` are counted by. What was granted in the very instant of a cut, and
    before it, is of the rate before."""
    return now if row.counted_since is None else max(now, row.counted_since + GRAIN)


def is_news(row: PaceRow | None, end: CallEnd) -> bool:
    """Should others hear of this 429 at once? Where stray ones are known, or a cut is on trial, it can wait."""
    if row is None:
        return True
    return _counts(row, end.granted_at) and row.trial is None and row.stray <= LEAST_STRAY


def learnt_anew(row: PaceRow, now: datetime) -> PaceRow:
    """Return the row of a model whose limit the provider has just told: what 429s taught before is void."""
    changes = {"peak": None, "trial": None, "not_before": None, "resumed_at": None}
    return _epoch(row.model_copy(update=changes), now)


@dataclass(frozen=True, slots=True)
class _Look:
    """How likely the calls of a trial are, if as many are refused as before, against hardly any: ``at_least``, if all
    that have not ended yet will be answered, and ``of_ended`` alone. A 429 may come sooner than an answer, or not."""

    before: float
    at_least: float
    of_ended: float


def _look(row: PaceRow, trial: Trial) -> _Look:
    low = max(row.stray, 0.005)
    before = min(0.9, max(trial.share, 1.5 * low + 0.02))
    by_429s, by_each_other = row.refused * log(before / low), log((1 - before) / (1 - low))
    at_least = by_429s + (row.begun - row.refused) * by_each_other
    return _Look(before, at_least, by_429s + row.passed * by_each_other)


def _tried(row: PaceRow, trial: Trial, ceiling: Ceiling, now: datetime) -> PaceRow:
    calls, ended, share, look = row.begun, row.refused + row.passed, _share(row), _look(row, trial)
    too_long = seconds_between(row.counted_since or row.born_at, now) > LONGEST_TRIAL * climb_s(row.peak or trial.rate)
    if ended >= FEWEST_CALLS and look.of_ended < -SURE_OF_LIMIT:
        return _confirmed(row, trial, ceiling, now)
    if too_long and calls >= FEWEST_CALLS and look.at_least <= SURE_OF_STRAY:
        return _confirmed(row, trial, ceiling, now)
    undecided = look.at_least <= SURE_OF_STRAY or ended < MOST_ENDED * calls
    if calls < 10 + 60 * look.before or (undecided and not too_long):
        return _held(row, now)
    worse = share > look.before + 0.05 + 2 * sqrt(look.before * (1 - look.before) / calls)
    if look.before > MOST_STRAY or worse or trial.calls < 5 + 30 * look.before:
        return _cut(row, share, ceiling, now)
    counted_as = (calls + ended) / 2  # those that are out still by half
    pooled = (trial.share * trial.calls + row.refused) / (trial.calls + counted_as)
    rate = allowed(row, ceiling, now)
    expected = look.before * counted_as
    fewest = expected - LUCK * sqrt(expected * (1 - look.before))
    fewer = row.refused < (fewest if look.before > SUSPECT else min(ALIKE * expected, fewest))
    if fewer and rate > DEEP_ENOUGH * (trial.met or trial.rate):
        deeper = trial.model_copy(update={"share": pooled, "calls": trial.calls + calls})
        return _epoch(row.model_copy(update={"trial": deeper, "peak": rate, "cut_at": now}), now)
    changes: dict[str, object] = {"stray": min(MOST_STRAY, pooled), "stray_at": now, "trial": None}
    if trial.guessed:
        changes |= {"peak": None, "start": trial.rate, "started_at": now}
    else:
        changes |= {"peak": trial.rate, "cut_at": now - timedelta(seconds=climb_s(trial.rate))}
    return _epoch(row.model_copy(update=changes), now)


def _held(row: PaceRow, now: datetime) -> PaceRow:
    """Climb only so far before it is decided. Slow calls decide slowly, so they wait higher up."""
    if row.cut_at is None or row.peak is None:
        return row
    whole_s = climb_s(row.peak)
    back_up_s = min(HALF_WAY, BACK_UP * whole_s / CLIMB_S) * whole_s
    return row.model_copy(update={"cut_at": max(row.cut_at, now - timedelta(seconds=back_up_s))})


def _confirmed(row: PaceRow, trial: Trial, ceiling: Ceiling, now: datetime) -> PaceRow:
    changes: dict[str, object] = {"trial": None, "stray": min(row.stray, _share(row)), "stray_at": now}
    if trial.guessed and row.doubling_s < GUESS_DOUBLES_S and known_most(row, ceiling) is None:
        start = allowed(row, ceiling, now)
        changes |= {"peak": None, "start": start, "started_at": now, "doubling_s": GUESS_DOUBLES_S}
    return _epoch(row.model_copy(update=changes), now)


def _judged(row: PaceRow, ceiling: Ceiling, now: datetime) -> PaceRow:
    calls, stray, share = row.begun, row.stray, _share(row)
    age_s = seconds_between(row.counted_since or row.born_at, now)
    enough = calls >= FEWEST_BEFORE_CUT or row.peak is not None
    if enough and _excess(row) >= TOO_MANY + 3 * sqrt(calls * stray * (1 - stray)):
        # It stopped at the last of so many 429s, which was sure to be one.
        return _cut(row, (row.refused - 0.5) / calls, ceiling, now)
    again_s = max(TRIED_AGAIN_S, TRIED_AGAIN_CALLS / per_minute(row, ceiling, now) * 60)
    if stray > LEAST_STRAY and calls >= FEWEST_IN_EPOCH and seconds_between(row.stray_at or row.born_at, now) > again_s:
        return _cut(row.model_copy(update={"stray": 0.0}), stray, ceiling, now)
    ended = row.refused + row.passed
    if age_s <= EPOCH_S and (calls <= EPOCH_CALLS or ended < ENDED_IN_EPOCH * calls):
        return row
    if age_s <= LONGEST_EPOCH_S and ended < ENDED_IN_EPOCH * calls:
        return row
    if stray:
        stray = min(MOST_STRAY, stray + (share - stray) * min(0.5, calls / EPOCH_CALLS))
    return _epoch(row.model_copy(update={"stray": stray}), now)


def _cut(row: PaceRow, share: float, ceiling: Ceiling, now: datetime) -> PaceRow:
    """Go slower, on trial. What the rate returns to is what was allowed: a queue that ran short says nothing of it."""
    rate, guessed = allowed(row, ceiling, now), row.peak is None
    if row.trial is not None:
        rate, guessed = row.trial.rate, row.trial.guessed
    base = max(LEAST_PER_MINUTE, min(per_minute(row, ceiling, now), _called(row, now)))
    met = base if row.trial is None else row.trial.met
    trial = Trial(share=max(row.stray, share), calls=row.begun, rate=rate, met=met, guessed=guessed)
    passed = min(1.0, (1 - share) / (1 - row.stray)) * KEPT
    if not guessed or known_most(row, ceiling) is not None:
        passed = max(passed, DEEPEST_CUT)
    changes: dict[str, object] = {
        "trial": trial,
        "peak": base if passed >= CUT else max(LEAST_PER_MINUTE, base * passed / CUT),
        "cut_at": now,
        "level": min(row.level, 0.0),
    }
    if row.cut_at is None or seconds_between(row.cut_at, now) > STORM_BEGINS_S:
        changes["before_cuts"] = None if guessed or row.peak is None else max(base, row.peak)
    return _epoch(row.model_copy(update=changes), now)


def _paused(row: PaceRow, refused: Sequence[CallEnd], ceiling: Ceiling, now: datetime) -> PaceRow:
    """Stop all calls for as long as the provider asks. Nothing passes: that is a storm, and the rate is remembered.
    Where calls pass between one pause and the next, it is a limit, and the rate at which they stopped is too high."""
    asked_s = [end.retry_after_s for end in refused if end.retry_after_s is not None]
    if row.resumed_at is None or seconds_between(row.resumed_at, now) > STORM_OVER_S:
        row = row.model_copy(update={"stormed_at": now, "answered_at": None, "pauses": 0})
    elif row.answered_at is not None:
        enough = row.begun >= (FEWEST_CALLS if row.trial is None else FEWEST_ON_TRIAL)
        if row.refused == row.begun > 0 or (enough and _coming_back(row, ceiling, now)):
            row = _cut(row, (row.refused - 0.5) / row.begun, ceiling, now)
        row = row.model_copy(update={"stormed_at": now, "answered_at": None, "pauses": 0})
    elif row.pauses == 1 and row.before_cuts is not None and _began_with_a_cut(row):
        half_s = climb_s(row.before_cuts) / 2
        changes = {"peak": row.before_cuts, "trial": None, "cut_at": now - timedelta(seconds=half_s)}
        row = row.model_copy(update=changes)
    wait_s = max(asked_s, default=None)
    if wait_s is None:
        wait_s = backoff_s(row.pauses + 1, base_s=PAUSE_BASE_S, cap_s=PAUSE_CAP_S, seed=row.key)
    until = now + timedelta(seconds=wait_s)
    if row.peak is None and row.answered_at is None:
        # A guess that no answer supports does not grow through pauses.
        start = max(FIRST_PER_MINUTE, min(allowed(row, ceiling, now), _called(row, now)))
        row = row.model_copy(update={"start": start, "started_at": until})
    cut_at = row.cut_at
    if row.peak is not None and cut_at is not None:
        # What it had climbed beyond its peak is not tried at once.
        cut_at = max(cut_at, until - timedelta(seconds=climb_s(row.peak)))
    stopped = {"pauses": row.pauses + 1, "refused_run": 0, "not_before": until, "resumed_at": until, "cut_at": cut_at}
    return _epoch(row.model_copy(update=stopped | {"level": min(row.level, 0.0)}), now)


def _began_with_a_cut(row: PaceRow) -> bool:
    if row.cut_at is None or row.stormed_at is None:
        return False
    return row.cut_at > row.stormed_at - timedelta(seconds=STORM_BEGINS_S)


def _coming_back(row: PaceRow, ceiling: Ceiling, now: datetime) -> bool:
    return per_minute(row, ceiling, now) < 0.99 * allowed(row, ceiling, now)


def _called(row: PaceRow, now: datetime) -> float:
    """Return the calls a minute that met the 429s: those of late, or the epoch's, where its 429s came long after."""
    epoch_s = max(1.0, seconds_between(row.counted_since or row.born_at, now))
    rate = max(called(row, now), 60 * row.begun / epoch_s)
    just_back = row.resumed_at is not None and seconds_between(row.resumed_at, now) < BACK_S
    return max(rate, row.peak) if just_back and row.peak is not None else rate


def _counts(row: PaceRow, granted_at: datetime) -> bool:
    return row.counted_since is None or granted_at > row.counted_since


def _share(row: PaceRow) -> float:
    return row.refused / row.begun if row.begun else 0.0


def _excess(row: PaceRow) -> float:
    """429s beyond those that are stray."""
    return row.refused - row.begun * row.stray


def _epoch(row: PaceRow, now: datetime) -> PaceRow:
    return row.model_copy(update={"counted_since": now, "begun": 0, "refused": 0, "passed": 0})
