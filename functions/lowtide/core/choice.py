"""Which lane a real-time call is bought on: the cheapest that still meets the deadline, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import ceil
from typing import assert_never

from .lanes import SHARE_OF_LIST, Lane, asked_lane
from .offpeak import OffPeak, discount, open_now
from .outcomes import backoff_s
from .past import UNKNOWN, Past
from .rates import MINUTE_S, QUICK_CAP_S
from .routes import LaneSpec, Routes
from .task import AcceptedTask
from .tasks import Strikes
from .tiers import Tier
from .wording import span

MARGIN_S = 30.0
"""Beside the calls themselves: for the way through the queue and for the writes before and after a call."""
SLACK = 1.5
"""Nine in ten calls end within their ninetieth percentile; this times that is planned for, within the timeout."""
REST_SLACK = 1.5
"""Who is sent back because flex rests may be away for half as long again (steps/line.py)."""
MOST_STALLS = 2
"""Calls on flex that took all their time. Each may be billed at half price: after two, default would have cost as
much. A refusal is not charged, so how often a task is refused does not matter while there is time."""
MOSTLY = 0.8
"""Flex that refused so large a share of late is expected to refuse again."""


@dataclass(frozen=True, slots=True)
class LaneChoice:
    """``reason`` is a few words, kept on the task's record; ``timeout_s`` is what the call may take, in seconds."""

    lane: Lane
    reason: str
    timeout_s: float


def choose(task: AcceptedTask, strikes: Strikes, now: datetime, routes: Routes, past: Past = UNKNOWN) -> LaneChoice:
    """The first lane in order that nothing speaks against; ``default`` serves every model.

    The body's ``service_tier`` is a preference: ``priority`` puts that lane first, ``default`` leaves the others out,
    and ``flex`` is taken wherever the lanes of the task have it. A batch is never chosen here: a LOW task that comes
    this far cannot be batched, or has no time left for it. ``past`` says how long calls take on flex and default now;
    where it does not know, a call takes all its time. Flex is chosen only where there is time for it and for a call on
    ``default`` after it, and is cut off where that one would have to begin. The time left shortens no other call: a
    late task is still answered.
    """
    asked = asked_lane(task.body)
    left_s = (task.deadline_at - now).total_seconds()
    passed_over = None
    for lane in _order(task, asked, routes):
        objection = _objection(lane, task, strikes, now, routes, past)
        if objection is None:
            within_s = timeout_s(lane, task, routes)
            if lane is Lane.FLEX:
                within_s = min(within_s, left_s - _after_flex_s(task, routes, past))
            reason = _reason(lane, task.tier, asked, left_s, passed_over, past)
            hours = open_now(routes.off_peak(task.provider), lane, now)
            return LaneChoice(lane, reason if hours is None else f"{reason}; {hours}", within_s)
        passed_over = passed_over or objection
    raise AssertionError("nothing speaks against default")


def flex_wait_s(
    task: AcceptedTask, strikes: Strikes, receives: int, now: datetime, routes: Routes, past: Past = UNKNOWN
) -> float:
    """How long a task that waits for flex, and came back ``receives`` times, may stay away: longer each time, and never
    so long that there would be no time for flex then. In seconds."""
    spare_s = (task.deadline_at - now).total_seconds() - _flex_needs_s(task, strikes, routes, past)
    retries = routes.retries
    return max(0.0, min(spare_s, backoff_s(receives, base_s=retries.base_s, cap_s=retries.cap_s, seed=task.key)))


def _order(task: AcceptedTask, asked: Lane | None, routes: Routes) -> Sequence[Lane]:
    lanes = [lane for lane in (*routes.lanes_of(task.type, task.tier), Lane.DEFAULT) if lane is not Lane.BATCH]
    if asked is Lane.DEFAULT:
        return [Lane.DEFAULT]
    if asked is Lane.PRIORITY or (asked is Lane.FLEX and Lane.FLEX in lanes):
        return [asked, *lanes]
    return lanes


def _objection(
    lane: Lane, task: AcceptedTask, strikes: Strikes, now: datetime, routes: Routes, past: Past
) -> str | None:
    model, left_s = routes.model(task.model), (task.deadline_at - now).total_seconds()
    match lane:
        case Lane.DEFAULT:
            return None
        case Lane.PRIORITY:
            if not model.priority:
                return f"{model.name} has no priority"
            return "priority was refused" if strikes.lane_unknown else None
        case Lane.FLEX:
            if not model.flex:
                return f"{model.name} has no flex"
            windows = routes.off_peak(task.provider)
            if share_of_list(Lane.DEFAULT, windows, now) < share_of_list(Lane.FLEX, windows, now):
                return "flex costs more in this hour"
            if strikes.lane_unknown:
                return "flex was refused"
            if strikes.flex_stalls >= MOST_STALLS:
                return f"flex did not answer {strikes.flex_stalls} times"
            if strikes.exhausted:
                return "it failed too often for a call that uses up no try"
            return None if left_s >= _flex_needs_s(task, strikes, routes, past) else _too_short(left_s, past)
        case Lane.BATCH:
            return "a call is no batch"
        case _:
            assert_never(lane)


def share_of_list(lane: Lane, windows: Sequence[OffPeak], at: datetime) -> Decimal:
    """What ``lane`` costs against list in the hour of ``at``."""
    return SHARE_OF_LIST[lane] * (1 - discount(windows, lane, at))


def _flex_needs_s(task: AcceptedTask, strikes: Strikes, routes: Routes, past: Past) -> float:
    """From now: until flex may be tried, a call on it (or a refusal, which costs nothing but the wait until the next
    try), and a call on default after it. Where flex is expected to refuse, there must be time for that first."""
    call_s = expected_s(Lane.FLEX, task, routes, past)
    retries, struck = routes.retries, strikes.failures + strikes.flex_refusals + strikes.flex_stalls
    refusal_s = min(retries.cap_s, retries.base_s * 2.0 ** min(20, struck))
    tries_s = max(call_s, refusal_s)
    if past.flex_refused >= MOSTLY:
        tries_s = call_s + refusal_s + QUICK_CAP_S * REST_SLACK
    return max(past.held_s, past.flex_rests_s) * REST_SLACK + tries_s + past.line_s + _after_flex_s(task, routes, past)


def _after_flex_s(task: AcceptedTask, routes: Routes, past: Past) -> float:
    return expected_s(Lane.DEFAULT, task, routes, past) + MARGIN_S


def expected_s(lane: Lane, task: AcceptedTask, routes: Routes, past: Past) -> float:
    """What to plan for a call on flex or default, in seconds."""
    nine_in_ten_s = past.flex_s if lane is Lane.FLEX else past.default_s
    most_s = timeout_s(lane, task, routes)
    return most_s if nine_in_ten_s is None else min(most_s, nine_in_ten_s * SLACK)


def apart_s(task: AcceptedTask, routes: Routes, past: Past, rate: float) -> float:
    """Between two answers on default, in seconds, as if one process made all the calls, at most ``rate`` a minute."""
    call_s = expected_s(Lane.DEFAULT, task, routes, past) / routes.tiers[task.tier].concurrency
    return max(call_s, MINUTE_S / rate)


def timeout_s(lane: Lane, task: AcceptedTask, routes: Routes) -> float:
    """What a call on a lane may take for a task of this tier, in seconds. Not for batches."""
    return min(_spec(lane, routes).call_timeout_s, routes.tiers[task.tier].call_timeout_s)


def _spec(lane: Lane, routes: Routes) -> LaneSpec:
    match lane:
        case Lane.PRIORITY:
            return routes.lanes.priority
        case Lane.DEFAULT:
            return routes.lanes.default
        case Lane.FLEX:
            return routes.lanes.flex
        case Lane.BATCH:
            raise AssertionError("a call is no batch")
        case _:
            assert_never(lane)


def _reason(lane: Lane, tier: Tier, asked: Lane | None, left_s: float, passed_over: str | None, past: Past) -> str:
    match lane:
        case Lane.FLEX:
            usual = "" if past.flex_s is None else f"nine in ten within {span(ceil(past.flex_s))}, "
            return f"flex at half price, {usual}{_left(left_s)}"
        case _ if passed_over is not None:
            return f"{lane}, as {passed_over}"
        case _ if asked is lane:
            return f"{lane} as the request asks"
        case _:
            return f"{lane} is the lane of {tier}"


def _too_short(left_s: float, past: Past) -> str:
    """In the words of what weighs most."""
    if left_s > 0 and past.flex_refused >= MOSTLY:
        return f"flex mostly refuses now and {span(left_s)} are left"
    if left_s > 0 and past.flex_rests_s > 0:
        return f"flex has no capacity now and {span(left_s)} are left"
    if left_s > 0 and past.flex_s is not None:
        return f"flex takes {span(ceil(past.flex_s))} now and {span(left_s)} are left"
    return f"{_left(left_s)}, too short for flex"


def _left(left_s: float) -> str:
    return f"{span(left_s)} left" if left_s > 0 else "no time left"
