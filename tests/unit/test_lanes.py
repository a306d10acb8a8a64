"""The lane of a real-time call: the cheapest that meets the deadline, and why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowtide
from lowtide.core.acceptance import accept
from lowtide.core.choice import MARGIN_S, MOST_STALLS, SLACK, choose, flex_wait_s
from lowtide.core.lanes import Lane
from lowtide.core.past import UNKNOWN, Past
from lowtide.core.routes import Routes
from lowtide.core.tasks import Strikes
from lowtide.core.tiers import Tier

ROUTES = Routes.load((Path(lowtide.__file__).parent / "routes.toml").read_text(encoding="utf-8"))
SENT = datetime(2026, 2, 28, 10, tzinfo=UTC)
FLEX_NEEDS_S = ROUTES.lanes.flex.call_timeout_s + ROUTES.lanes.default.call_timeout_s + MARGIN_S
QUICK = Past(flex_s=40.0, default_s=10.0)
QUICK_NEEDS_S = (40 + 10) * SLACK + MARGIN_S


def task(tier=Tier.NORMAL, model="gpt-5-mini", asked=None, deadline_s=None, routes=ROUTES):
    body = {"model": model, "messages": [{"role": "user", "content": "?"}], "service_tier": asked}
    raw = {
        "task_id": "t",
        "priority": tier.value,
        "deadline_seconds": deadline_s,
        "request": {"url": "/v1/chat/completions", "body": body},
    }
    return accept(raw, origin="o", sent_at=SENT, routes=routes)


def chosen(made, after_s=0.0, refused=0, routes=ROUTES, past=UNKNOWN):
    return choose(made, Strikes(flex_refusals=refused), SENT + timedelta(seconds=after_s), routes, past)


def with_left(left_s, past=UNKNOWN, refused=0):
    return chosen(task(), 3600 - left_s, refused, past=past)


def test_normal_starts_on_flex_where_the_model_has_it():
    choice = chosen(task(), after_s=100)
    assert (choice.lane, choice.timeout_s) == (Lane.FLEX, ROUTES.lanes.flex.call_timeout_s)
    assert choice.reason == "flex at half price, 58 min left"


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "some/other-model"])
def test_a_model_without_flex_is_called_on_default(model):
    choice = chosen(task(model=model))
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, f"default, as {model} has no flex")


def test_refusals_of_flex_cost_nothing_and_it_is_asked_again_as_long_as_there_is_time():
    assert with_left(3_000, refused=100).lane is Lane.FLEX
    assert with_left(ROUTES.retries.cap_s + 120 + MARGIN_S, refused=100).lane is Lane.FLEX
    assert with_left(ROUTES.retries.cap_s + 120 + MARGIN_S - 1, refused=100).lane is Lane.DEFAULT


def test_flex_is_given_up_once_its_unanswered_calls_may_have_cost_as_much_as_default():
    assert choose(task(), Strikes(flex_stalls=MOST_STALLS - 1), SENT, ROUTES).lane is Lane.FLEX
    choice = choose(task(), Strikes(flex_stalls=MOST_STALLS), SENT, ROUTES)
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, "default, as flex did not answer 2 times")


def test_a_task_that_was_bought_twice_in_an_outage_takes_no_lane_whose_failures_use_up_no_try():
    choice = choose(task(), Strikes(forgiven=1, flex_stalls=1), SENT, ROUTES)
    assert choice.lane is Lane.DEFAULT
    assert choose(task(), Strikes(forgiven=1), SENT, ROUTES).lane is Lane.FLEX


@pytest.mark.parametrize(
    ("asked", "lane"),
    [("fast", Lane.PRIORITY), ("priority", Lane.PRIORITY), ("scale", Lane.DEFAULT), ("auto", Lane.FLEX)],
)
def test_the_words_for_a_lane_that_senders_use_are_understood(asked, lane):
    assert chosen(task(asked=asked)).lane is lane


@pytest.mark.parametrize("lane", ["flex", "priority"])
def test_a_lane_that_the_provider_does_not_have_is_asked_for_once(lane):
    choice = choose(task(asked=lane), Strikes(lane_unknown=True), SENT, ROUTES)
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, f"default, as {lane} was refused")


@given(st.integers(1, 1_000), st.floats(0, 3_600), st.floats(0, 600))
def test_who_waits_for_flex_comes_back_while_there_is_still_time_for_it(receives, left_s, rests_s):
    made, now = task(), SENT + timedelta(seconds=3_600 - left_s)
    past = replace(QUICK, flex_rests_s=rests_s)
    away_s = flex_wait_s(made, Strikes(), receives, now, ROUTES, past)
    assert 0 <= away_s <= ROUTES.retries.cap_s
    if choose(made, Strikes(), now, ROUTES, past).lane is Lane.FLEX:
        then = now + timedelta(seconds=max(0.0, away_s - 0.001))
        assert choose(made, Strikes(), then, ROUTES, past).lane is Lane.FLEX


def test_who_waits_for_flex_stays_away_longer_each_time():
    waits = [flex_wait_s(task(), Strikes(), receives, SENT, ROUTES, QUICK) for receives in (1, 5, 9, 20)]
    assert waits[0] <= 2
    assert waits == sorted(waits)
    assert waits[-1] >= ROUTES.retries.cap_s / 2


def test_flex_is_given_up_while_there_is_still_time_for_default():
    deadline_s = ROUTES.tiers[Tier.NORMAL].deadline_s
    assert chosen(task(), after_s=deadline_s - FLEX_NEEDS_S).lane is Lane.FLEX
    choice = chosen(task(), after_s=deadline_s - FLEX_NEEDS_S + 1)
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, "default, as 6 min left, too short for flex")


def test_a_body_that_asks_for_default_is_not_put_on_flex():
    choice = chosen(task(asked="default"))
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, "default as the request asks")


@pytest.mark.parametrize("asked", ["auto", None])
def test_auto_is_no_preference(asked):
    assert chosen(task(asked=asked)).lane is Lane.FLEX


@pytest.mark.parametrize("tier", [Tier.CRITICAL, Tier.HIGH])
def test_urgent_tasks_are_called_on_default_and_never_on_flex(tier):
    for asked in (None, "flex", "default"):
        choice = chosen(task(tier, asked=asked, deadline_s=7200))
        assert choice.lane is Lane.DEFAULT
        assert choice.timeout_s == ROUTES.tiers[tier].call_timeout_s
    assert chosen(task(tier)).reason == f"default is the lane of {tier.value}"


@pytest.mark.parametrize("tier", [Tier.CRITICAL, Tier.HIGH, Tier.NORMAL])
def test_priority_is_bought_where_the_request_asks_and_the_model_has_it(tier):
    choice = chosen(task(tier, asked="priority"))
    assert (choice.lane, choice.reason) == (Lane.PRIORITY, "priority as the request asks")


def test_a_model_without_priority_falls_back_with_the_reason():
    choice = chosen(task(Tier.CRITICAL, model="gpt-5-nano", asked="priority"))
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, "default, as gpt-5-nano has no priority")


def test_a_route_may_ask_for_priority_first():
    first = ROUTES.tiers[Tier.CRITICAL].model_copy(update={"lanes": (Lane.PRIORITY, Lane.DEFAULT)})
    routes = ROUTES.model_copy(update={"tiers": ROUTES.tiers | {Tier.CRITICAL: first}})
    choice = chosen(task(Tier.CRITICAL, routes=routes), routes=routes)
    assert (choice.lane, choice.reason) == (Lane.PRIORITY, "priority is the lane of CRITICAL")
    assert chosen(task(Tier.CRITICAL, asked="default", routes=routes), routes=routes).lane is Lane.DEFAULT


def test_a_low_task_that_is_not_batched_is_called_on_flex_first():
    routes = ROUTES.without_batch()
    assert chosen(task(Tier.LOW, routes=routes), routes=routes).lane is Lane.FLEX
    assert chosen(task(Tier.LOW, model="gpt-4o", routes=routes), routes=routes).lane is Lane.DEFAULT


def test_a_late_task_is_called_on_default_with_the_whole_time_that_a_call_may_take():
    choice = chosen(task(), after_s=10_000)
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, "default, as no time left, too short for flex")
    assert choice.timeout_s == ROUTES.lanes.default.call_timeout_s


def test_flex_that_is_quick_now_is_still_tried_when_an_unknown_one_would_not_be():
    assert with_left(QUICK_NEEDS_S).lane is Lane.DEFAULT
    choice = with_left(QUICK_NEEDS_S, QUICK)
    assert (choice.lane, choice.reason) == (Lane.FLEX, "flex at half price, nine in ten within 40 s, 105 s left")
    choice = with_left(QUICK_NEEDS_S - 1, QUICK)
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, "default, as flex takes 40 s now and 104 s are left")


def test_a_call_on_flex_is_cut_off_where_the_one_on_default_would_have_to_begin():
    assert with_left(QUICK_NEEDS_S, QUICK).timeout_s == 40 * SLACK
    assert with_left(QUICK_NEEDS_S + 20, QUICK).timeout_s == 40 * SLACK + 20
    assert with_left(3600, QUICK).timeout_s == ROUTES.lanes.flex.call_timeout_s


def test_slow_lanes_are_never_expected_to_take_longer_than_a_call_may():
    slow = Past(flex_s=900.0, default_s=900.0)
    assert with_left(FLEX_NEEDS_S, slow).lane is Lane.FLEX
    choice = with_left(FLEX_NEEDS_S - 1, slow)
    assert choice.reason == "default, as flex takes 15 min now and 6 min are left"


def test_flex_that_refused_lately_is_tried_all_the_same_while_there_is_time_for_a_refusal_and_its_wait():
    refusing = replace(QUICK, flex_refused=0.9)
    assert with_left(600, refusing).lane is Lane.FLEX
    choice = with_left(QUICK_NEEDS_S + 20, refusing)
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, "default, as flex mostly refuses now and 2 min are left")
    assert with_left(QUICK_NEEDS_S + 20, replace(QUICK, flex_refused=0.5)).lane is Lane.FLEX


def test_the_time_that_flex_rests_is_part_of_what_it_takes():
    resting = replace(QUICK, flex_rests_s=100.0)
    assert with_left(QUICK_NEEDS_S + 150, resting).lane is Lane.FLEX
    choice = with_left(QUICK_NEEDS_S + 149, resting)
    assert (choice.lane, choice.reason) == (Lane.DEFAULT, "default, as flex has no capacity now and 4 min are left")
    assert with_left(QUICK_NEEDS_S + 149, replace(QUICK, held_s=100.0)).lane is Lane.DEFAULT


def test_flex_is_left_in_time_for_all_who_would_have_to_go_on_default():
    waiting = replace(QUICK, line_s=600.0)
    assert with_left(QUICK_NEEDS_S + 600, waiting).lane is Lane.FLEX
    assert with_left(QUICK_NEEDS_S + 599, waiting).lane is Lane.DEFAULT


def test_no_past_moves_an_urgent_task_or_one_that_asks():
    assert chosen(task(Tier.CRITICAL), past=QUICK) == chosen(task(Tier.CRITICAL))
    assert chosen(task(asked="default"), past=QUICK) == chosen(task(asked="default"))


pasts = st.builds(
    Past,
    flex_s=st.none() | st.floats(0, 2_000),
    default_s=st.none() | st.floats(0, 2_000),
    flex_refused=st.floats(0, 1),
    flex_rests_s=st.floats(0, 1_000),
    held_s=st.floats(0, 100),
    line_s=st.floats(0, 2_000),
)


@given(pasts, st.floats(-100, 3_600), st.floats(0, 3_600), st.integers(0, 3))
def test_with_more_time_left_the_lane_is_never_dearer(past, left_s, more_s, refused):
    if with_left(left_s, past, refused).lane is Lane.FLEX:
        assert with_left(min(3_600, left_s + more_s), past, refused).lane is Lane.FLEX


@given(pasts, st.floats(-100, 3_600), st.integers(0, 3))
def test_whatever_becomes_of_a_call_on_flex_there_is_time_for_one_on_default(past, left_s, refused):
    choice = with_left(left_s, past, refused)
    timeout_s = ROUTES.lanes.default.call_timeout_s
    default_s = timeout_s if past.default_s is None else min(timeout_s, past.default_s * SLACK)
    if choice.lane is Lane.FLEX:
        assert choice.timeout_s + default_s + MARGIN_S <= left_s + 1e-3
        assert choice.timeout_s >= min(ROUTES.lanes.flex.call_timeout_s, past.flex_s or 0.0) - 1e-3
    else:
        assert choice.timeout_s == timeout_s


@given(
    st.sampled_from(list(Tier)),
    st.sampled_from(["gpt-5-mini", "gpt-5-nano", "gpt-4o", "other"]),
    st.sampled_from([None, "auto", "default", "flex", "priority"]),
    st.integers(1, 200_000),
    st.floats(-10, 300_000),
    st.integers(0, 5),
    pasts,
)
def test_a_call_has_a_lane_its_model_has_a_reason_and_a_time_in_bounds(
    tier, model, asked, deadline_s, after_s, refused, past
):
    made = task(tier, model, asked, deadline_s)
    choice = chosen(made, after_s, refused, past=past)
    spec = ROUTES.model(model)
    assert choice.lane is not Lane.BATCH
    assert spec.flex or choice.lane is not Lane.FLEX
    assert spec.priority or choice.lane is not Lane.PRIORITY
    assert choice.reason.startswith(choice.lane.value)
    assert 0 < choice.timeout_s <= ROUTES.tiers[tier].call_timeout_s
    if choice.lane is Lane.FLEX:
        assert tier in (Tier.NORMAL, Tier.LOW)
