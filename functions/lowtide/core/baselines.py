"""What is usual: a queue's depth at this hour of the week, and what a task cost the week before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median

WEEK = timedelta(days=7)

FEWEST_TASKS = 100
"""Answered tasks that a week needs for its cost per task to mean something."""

Series = Sequence[tuple[datetime, float]]
"""(start of the period, value) of each period that has one; periods of an hour."""


def usual_depth(hours: Series, now: datetime) -> float:
    """The median of the same hour in the weeks before; of the same hour of the day while there is no such week.

    LOW rises and falls with the day and the week, so other hours say little. 0 with no history at all: the alarm's
    floor then stands for it.
    """
    past = [(start, depth) for start, depth in hours if start <= now - timedelta(hours=1)]
    same_hour = [(start, depth) for start, depth in past if start.hour == now.hour]
    same_week_hour = [depth for start, depth in same_hour if start.weekday() == now.weekday()]
    return median(same_week_hour or [depth for _, depth in same_hour] or [0.0])


def cost_ratio(cost_usd: Series, answered: Series, now: datetime) -> float | None:
    """Cost per answered task of the last seven days over that of the seven before.

    None where either week has too few tasks, or the earlier one cost nothing.
    """
    this_week = _per_task(cost_usd, answered, now - WEEK, now)
    last_week = _per_task(cost_usd, answered, now - 2 * WEEK, now - WEEK)
    return this_week / last_week if this_week is not None and last_week else None


def _per_task(cost_usd: Series, answered: Series, start: datetime, end: datetime) -> float | None:
    tasks = _sum(answered, start, end)
    return _sum(cost_usd, start, end) / tasks if tasks >= FEWEST_TASKS else None


def _sum(series: Series, start: datetime, end: datetime) -> float:
    return sum(value for moment, value in series if start <= moment < end)
