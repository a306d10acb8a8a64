"""Whether a task that would be called now waits for an off-peak window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowtide
from lowtide.core.acceptance import accept
from lowtide.core.choice import choose
from lowtide.core.lanes import Lane
from lowtide.core.later import COMFORT_S, LONGEST_WAIT, MOST_WAITING, SPREAD_S, waits_until
from lowtide.core.offpeak import OffPeak
from lowtide.core.past import UNKNOWN, Past
from lowtide.core.routes import Routes
from lowtide.core.tasks import Strikes
from lowtide.core.tiers import Tier

SHIPPED = Routes.load((Path(lowtide.__file__).parent / "routes.toml").read_text(encoding="utf-8"))
OPENS = datetime(2026, 3, 2, 16, 30, tzinfo=UTC)
PLAIN, WITH_FLEX = "gpt-4o-mini", "gpt-5-mini"
HOUR_S = 3_600


def routes_with(discount: str = "0.5", lanes=("default",), *, starts="2026-03-01", closes="00:30") -> Routes:
    window = {"from": starts, "opens": "16:30", "closes": closes, "discount": discount, "lanes": lanes}
    openai = SHIPPED.providers["openai"].model_copy(update={"off_peak": (OffPeak.model_validate(window),)})
    return SHIPPED.model_copy(update={"providers": {"openai": openai}})


CHEAPER = routes_with()
SPAN_S = SHIPPED.lanes.default.call_timeout_s + COMFORT_S
"""After its moment, of a task whose model has no flex and nothing is known of."""


def task(model=PLAIN, *, tier=Tier.NORMAL, asked=None, deadline_s=6 * HOUR_S, sent_at=OPENS - timedelta(hours=3)):
    body = {"model": model, "messages": [{"role": "user", "content": "?"}], "service_tier": asked}
    raw = {"task_id": "t", "priority": tier.value, "deadline_seconds": deadline_s}
    raw["request"] = {"url": "/v1/chat/completions", "body": body}
    return accept(raw, origin="o", sent_at=sent_at, routes=SHIPPED)


def waits(made, routes=CHEAPER, past=UNKNOWN, *, now=None, in_line=0):
    return waits_until(made, Strikes(), now or made.accepted_at, routes, past, in_line=in_line)


def test_a_normal_task_with_hours_waits_for_the_window_that_halves_its_price():
    moment = waits(task())
    assert timedelta(0) < moment - OPENS <= timedelta(seconds=SPREAD_S + 1)


def test_those_who_wait_do_not_all_come_back_at_once():
    made = [task().model_copy(update={"task_id": f"t{number}"}) for number in range(200)]
    moments = [waits(each) for each in made]
    assert max(moments) - min(moments) > timedelta(seconds=SPREAD_S * 0.8)


def test_of_a_short_window_only_the_first_quarter_passes_before_all_are_back():
    moment = waits(task(), routes_with(closes="16:50"))
    assert moment - OPENS <= timedelta(minutes=5, seconds=1)


def test_the_hour_that_a_normal_task_has_by_itself_is_too_short_to_wait_three():
    assert waits(task(deadline_s=None)) is None


def test_a_deadline_is_comfortable_with_half_an_hour_beside_the_call():
    moment = waits(task())
    needed_s = (moment - task().accepted_at).total_seconds() + SPAN_S
    assert waits(task(deadline_s=int(needed_s) + 1)) == moment
    assert waits(task(deadline_s=int(needed_s) - 1)) is None


def test_quick_calls_need_less_of_the_deadline():
    moment = waits(task())
    short = task(deadline_s=int((moment - task().accepted_at).total_seconds() + COMFORT_S + 30))
    assert waits(short) is None
    assert waits(short, past=Past(default_s=10.0)) == moment


@pytest.mark.parametrize("tier", [Tier.CRITICAL, Tier.HIGH])
def test_urgent_tasks_never_wait_whatever_their_deadline(tier):
    assert waits(task(tier=tier)) is None


@pytest.mark.parametrize("asked", ["default", "priority"])
def test_who_asks_for_a_lane_that_is_not_cheap_is_not_kept_waiting(asked):
    assert waits(task(asked=asked)) is None


def test_a_low_task_waits_like_a_normal_one_only_where_no_batch_could_have_it():
    assert waits(task(tier=Tier.LOW)) is None
    alone = task(tier=Tier.LOW).model_copy(update={"batchable": False})
    assert waits(alone) == waits(task())


def test_flex_now_is_as_cheap_as_default_at_half_price_later():
    assert waits(task(WITH_FLEX), routes_with("0.5")) is None
    assert waits(task(WITH_FLEX), routes_with("0.6")) is not None
    assert waits(task(WITH_FLEX), routes_with("0.1", lanes=("default", "flex"))) is not None


def test_with_flex_given_up_the_window_is_cheaper_than_what_is_left():
    made = task(WITH_FLEX)
    strikes = Strikes(lane_unknown=True)
    assert waits_until(made, strikes, made.accepted_at, routes_with("0.5")) is not None


def test_a_window_for_batches_alone_keeps_no_call_waiting():
    assert waits(task(), routes_with(lanes=("batch",))) is None


def test_inside_the_window_nobody_waits_for_the_next_one():
    assert waits(task(deadline_s=40 * HOUR_S), now=OPENS) is None


def test_in_its_window_a_discounted_default_goes_before_a_dearer_flex():
    made = task(WITH_FLEX)
    choice = choose(made, Strikes(), OPENS, routes_with("0.6"))
    assert choice.lane is Lane.DEFAULT
    assert choice.reason == "default, as flex costs more in this hour; off-peak from 16:30 UTC: 60% less"
    assert choose(made, Strikes(), OPENS, routes_with("0.4")).lane is Lane.FLEX


def test_nobody_waits_for_longer_than_a_queue_may_be_trusted_with():
    first = OPENS.date() + LONGEST_WAIT
    assert waits(task(deadline_s=300 * HOUR_S), routes_with(starts=first.isoformat())) is None
    assert waits(task(deadline_s=300 * HOUR_S), routes_with(starts=(first - timedelta(days=1)).isoformat())) is not None


def test_a_long_line_ahead_needs_a_longer_deadline_and_a_very_long_one_ends_the_waiting():
    assert waits(task(), in_line=5_000) is None
    assert waits(task(deadline_s=24 * HOUR_S), in_line=5_000) is not None
    assert waits(task(deadline_s=600 * HOUR_S), in_line=MOST_WAITING + 1) is None


def test_a_task_whose_provider_is_gone_from_the_routes_does_not_wait():
    assert waits(task().model_copy(update={"provider": "gone"})) is None


@given(
    st.sampled_from(list(Tier)),
    st.sampled_from([PLAIN, WITH_FLEX]),
    st.sampled_from([None, "flex", "default", "priority"]),
    st.integers(1, 400_000),
    st.floats(0, 200_000),
    st.integers(0, 60_000),
    st.sampled_from([("batch",), ("default",), ("flex",), ("default", "flex")]),
)
def test_whoever_waits_comes_back_to_a_lower_price_and_in_time(tier, model, asked, deadline_s, after_s, in_line, lanes):
    made, routes = task(model, tier=tier, asked=asked, deadline_s=deadline_s), routes_with("0.6", lanes)
    now = made.accepted_at + timedelta(seconds=after_s)
    moment = waits(made, routes, now=now, in_line=in_line)
    if moment is None:
        return
    assert now < moment <= made.deadline_at - timedelta(seconds=SPAN_S)
    assert tier in (Tier.NORMAL, Tier.LOW)
    assert waits(made, routes, now=moment, in_line=in_line) is None
    assert "off-peak from 16:30 UTC: 60% less" in choose(made, Strikes(), moment, routes).reason


@pytest.mark.parametrize(
    ("lanes", "strikes", "cheap"),
    [
        ((Lane.PRIORITY, Lane.DEFAULT), Strikes(), "default"),
        (None, Strikes(lane_unknown=True), "flex"),
        (None, Strikes(flex_stalls=2), "flex"),
    ],
)
def test_nobody_waits_for_a_window_of_a_lane_that_it_would_not_take_then(lanes, strikes, cheap):
    routes = routes_with("0.6", (cheap,))
    if lanes is not None:
        normal = routes.tiers[Tier.NORMAL].model_copy(update={"lanes": lanes})
        routes = routes.model_copy(update={"tiers": {**routes.tiers, Tier.NORMAL: normal}})
    made = task(WITH_FLEX)
    until = waits_until(made, strikes, made.accepted_at, routes)
    taken = choose(made, strikes, OPENS, routes).lane
    assert taken.value != cheap
    assert until is None


def test_a_slow_model_needs_longer_for_those_who_wait_and_packs_are_counted_by_their_tasks():
    made = task(deadline_s=int((waits(task()) - task().accepted_at).total_seconds() + SPAN_S + 600))

    def until(**line):
        return waits_until(made, Strikes(), made.accepted_at, CHEAPER, Past(default_s=1.0), **line)

    assert until(in_line=60) is not None
    assert until(in_line=60, beside=10, rate=600) is not None
    assert until(in_line=60, rate=6) is not None
    assert until(in_line=60, beside=10, rate=6) is None
