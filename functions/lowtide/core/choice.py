"""Which lane a real-time call is bought on: the cheapest that still meets the deadline, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from .lanes import Lane
from .routes import LaneSpec, Routes
from .task import AcceptedTask
from .tasks import Strikes
from .tiers import Tier
from .wording import span


@dataclass(frozen=True, slots=True)
class LaneChoice:
    """``reason`` is a few words, kept on the task's record; ``timeout_s`` is what the call may take, in seconds."""

    lane: Lane
    reason: str
    timeout_s: float


def choose(task: AcceptedTask, strikes: Strikes, now: datetime, routes: Routes) -> LaneChoice:
    """The first lane in order that nothing speaks against; ``default`` serves every model.

    The body's ``service_tier`` is a preference: ``priority`` puts that lane first, ``default`` leaves the others out,
    and ``flex`` is taken wherever the lanes of the task have it. A batch is never chosen here: a LOW task that comes
    this far cannot be batched, or has no time left for it. The time left never shortens ``timeout_s``: a late task
    is still answered, and flex is chosen only where there is time for a call on ``default`` after it.
    """
    asked = (task.body or {}).get("service_tier")
    left_s = (task.deadline_at - now).total_seconds()
    passed_over = None
    for lane in _order(task, asked, routes):
        objection = _objection(lane, task, strikes, left_s, routes)
        if objection is None:
            return LaneChoice(
                lane, _reason(lane, task.tier, asked, left_s, passed_over), _timeout_s(lane, task, routes)
            )
        passed_over = passed_over or objection
    raise AssertionError("nothing speaks against default")


def _order(task: AcceptedTask, asked: str | None, routes: Routes) -> Sequence[Lane]:
    lanes = [lane for lane in (*routes.lanes_of(task.type, task.tier), Lane.DEFAULT) if lane is not Lane.BATCH]
    if asked == Lane.DEFAULT:
        return [Lane.DEFAULT]
    if asked == Lane.PRIORITY or (asked == Lane.FLEX and Lane.FLEX in lanes):
        return [Lane(asked), *lanes]
    return lanes


def _objection(lane: Lane, task: AcceptedTask, strikes: Strikes, left_s: float, routes: Routes) -> str | None:
    model = routes.model(task.model)
    match lane:
        case Lane.DEFAULT:
            return None
        case Lane.PRIORITY:
            if not model.priority:
                return f"{model.name} has no priority"
            return "priority was refused" if strikes.flex_refusals else None
        case Lane.FLEX:
            if not model.flex:
                return f"{model.name} has no flex"
            if strikes.flex_refusals >= routes.retries.flex_refusals:
                return f"flex refused {strikes.flex_refusals} times"
            needed_s = _timeout_s(Lane.FLEX, task, routes) + _timeout_s(Lane.DEFAULT, task, routes)
            return None if left_s >= needed_s else f"{_left(left_s)}, too short for flex"
        case Lane.BATCH:
            return "a call is no batch"
        case _:
            assert_never(lane)


def _timeout_s(lane: Lane, task: AcceptedTask, routes: Routes) -> float:
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


def _reason(lane: Lane, tier: Tier, asked: str | None, left_s: float, passed_over: str | None) -> str:
    match lane:
        case Lane.FLEX:
            return f"flex at half price, {_left(left_s)}"
        case _ if passed_over is not None:
            return f"{lane}, as {passed_over}"
        case _ if asked == lane:
            return f"{lane} as the request asks"
        case _:
            return f"{lane} is the lane of {tier}"


def _left(left_s: float) -> str:
    return f"{span(left_s)} left" if left_s > 0 else "no time left"
