"""Report: publish what no other function sees, and zeros where nothing happened, so that silence is not health."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from lowtide.core.baselines import WEEK, Series, cost_ratio, usual_depth
from lowtide.core.records import Status
from lowtide.core.tiers import Tier
from lowtide.ports import Metrics, Queue

BASELINE_WEEKS = 4
"""Weeks whose same hour makes a baseline: a median of four is not moved by one bad week."""

HOUR_S = 3600


class History(Protocol):
    """What this deployment's own metrics have been."""

    def series(
        self, metric: str, *, period_s: int, statistic: str, start: datetime, end: datetime, **dimensions: str
    ) -> Series:
        """The ``statistic`` (Average, Sum …) of each period that has values, oldest first."""
        ...


def report(tiers: Mapping[Tier, Queue], history: History, metrics: Metrics, now: datetime) -> None:
    """One run: each tier's depth and what is usual for it, the cost of a task week over week, and zeros."""
    for tier, queue in tiers.items():
        depth = queue.depth()
        metrics.count("depth", depth.visible + depth.in_flight + depth.delayed, tier=tier.value)
        metrics.count("depth_baseline", _baseline(history, tier, now), tier=tier.value)
    ratio = _cost_ratio(history, now)
    if ratio is not None:
        metrics.count("cost_per_task_ratio", ratio)
    for tier in Tier:
        # Beside these the error rate of an outage that nobody calls through would be no data, and no alarm.
        metrics.count("calls", 0, tier=tier.value)
        metrics.count("call_errors", 0, tier=tier.value)


def _baseline(history: History, tier: Tier, now: datetime) -> float:
    start = _whole_hour(now) - BASELINE_WEEKS * WEEK
    hours = history.series("depth", period_s=HOUR_S, statistic="Average", start=start, end=now, tier=tier.value)
    return usual_depth(hours, now)


def _cost_ratio(history: History, now: datetime) -> float | None:
    end = _whole_hour(now)  # both weeks are then as long

    def hourly(metric: str, **dimensions: str) -> list[tuple[datetime, float]]:
        start = end - 2 * WEEK
        of_tiers = (
            history.series(
                metric, period_s=HOUR_S, statistic="Sum", start=start, end=end, tier=tier.value, **dimensions
            )
            for tier in Tier
        )
        return [point for series in of_tiers for point in series]

    return cost_ratio(hourly("cost_usd"), hourly("tasks_settled", status=Status.ANSWERED.value), end)


def _whole_hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)
