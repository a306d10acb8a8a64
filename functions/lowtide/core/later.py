"""A later, cheaper lane: whether a task that would be called now waits for an off-peak window, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from math import inf

from .choice import apart_s, choose, expected_s, share_of_list
from .lanes import Lane, asked_lane
from .offpeak import CheapHours, next_open
from .outcomes import jitter
from .past import UNKNOWN, Past
from .routes import Routes
from .task import AcceptedTask
from .tasks import Strikes
from .tiers import Tier

LONGEST_WAIT = timedelta(days=2)
"""From a task's acceptance to the opening that it waits for. A queue keeps a message for ten days, and the alarm on its
age rings after five."""

SPREAD_S = 900.0
"""Those who wait come back over the first quarter of an hour of a window, or of the quarter of a short one: all at once
they would stand in the way of what comes then and cannot wait."""

COMFORT_S = 1_800.0
"""Beside all that is counted, this much of the deadline must be left: what calls will take hours from now is not known,
and a saving is not worth a deadline."""

MOST_WAITING = 50_000
"""Messages on the queue with which nobody waits on purpose: SQS hands out no more once 120,000 are in flight, which is
where it counts the waiting ones."""


def waits_until(
    task: AcceptedTask,
    strikes: Strikes,
    now: datetime,
    routes: Routes,
    past: Past = UNKNOWN,
    *,
    in_line: int = 0,
    beside: int = 1,
    rate: float = inf,
) -> datetime | None:
    """When to take the task up instead of now; None where it does not pay, or its deadline does not comfortably allow.

    It pays where the lane that it would take in a window that has yet to open costs less than the one that it would
    take now. There must be time after the opening for those who come back with it (``in_line`` messages of ``beside``
    tasks, as if one process answered them, at no more than ``rate`` calls a minute), for its own call on that lane and
    one on default where that is another, and ``COMFORT_S``.
    """
    windows = routes.off_peak(task.provider)
    if not windows or in_line > MOST_WAITING or not _may_wait(task):
        return None
    share_now = share_of_list(choose(task, strikes, now, routes, past).lane, windows, now)
    line_s = in_line * beside * apart_s(task, routes, past, rate)
    found = [each for each in _later(task, strikes, now, routes, past, line_s) if each[0] < share_now]
    return min(found)[1] if found else None


def _may_wait(task: AcceptedTask) -> bool:
    """CRITICAL and HIGH never do, nor does who asks for default or priority. A LOW task that could be batched and is
    called all the same was rescued, or is only to be asked about."""
    asked = asked_lane(task.body)
    low = task.tier is Tier.LOW and not task.batchable
    return (low or task.tier is Tier.NORMAL) and asked not in (Lane.DEFAULT, Lane.PRIORITY)


def _later(
    task: AcceptedTask, strikes: Strikes, now: datetime, routes: Routes, past: Past, line_s: float
) -> Iterator[tuple[Decimal, datetime]]:
    """(share of list, moment) of what the task would take in each window to come, where the deadline allows."""
    windows = routes.off_peak(task.provider)
    default_s = expected_s(Lane.DEFAULT, task, routes, past)
    for window_of in (Lane.FLEX, Lane.DEFAULT):
        hours = next_open(windows, window_of, now)
        if hours is None:
            continue
        moment = _spread(hours, task.key)
        lane = choose(task, strikes, moment, routes, past).lane
        flex_s = expected_s(Lane.FLEX, task, routes, past) if lane is Lane.FLEX else 0.0
        in_time = moment + timedelta(seconds=line_s + flex_s + default_s + COMFORT_S) <= task.deadline_at
        if in_time and moment <= task.accepted_at + LONGEST_WAIT:
            yield share_of_list(lane, windows, moment), moment


def _spread(hours: CheapHours, seed: str) -> datetime:
    over_s = min(SPREAD_S, (hours.closes - hours.opens).total_seconds() / 4)
    # A second late, because messages come back at whole seconds and not before the window is open.
    return hours.opens + timedelta(seconds=1 + over_s * jitter(seed))
