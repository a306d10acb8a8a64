"""How fast a model is called: one bucket for all, a rate that learns, and waits that differ by what caused them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.outcomes import Headroom
from lowtide.core.pace import born, transition
from lowtide.core.pace_events import CallEnd, Ceiling, Held, PaceVerdict, Sign, Take, Tell
from lowtide.core.pace_rows import PaceRow
from lowtide.core.rates import CUT, HEADROOM, climb_s, per_minute

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
KEY = "openai gpt-5-mini"
SIXTY = Ceiling(requests=60)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def take(count: int, *, ceiling: Ceiling = SIXTY, horizon_s: float = 0.0, **more) -> Take:
    return Take(KEY, "call", (0,) * count, horizon_s, 60.0, ceiling=ceiling, **more)


def after(row: PaceRow | None, *told: tuple[float, CallEnd], ceiling: Ceiling = SIXTY) -> PaceRow:
    """The row once each of these was told, at so many seconds."""
    for seconds, end in told:
        row = transition(row, Tell(KEY, (end,), ceiling), at(seconds)).row
    assert row is not None
    return row


def end(sign: Sign, granted: float, **more) -> CallEnd:
    return CallEnd(sign, at(granted), "call", "witness", **more)


def test_no_more_calls_are_granted_than_the_rate_has_whoever_asks():
    row, granted = None, []
    for tenth in range(600):
        decision = transition(row, take(5), at(tenth / 10))
        row = decision.row
        granted += decision.moments
    assert 60 <= len(granted) <= 61


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 40), st.floats(0, 4)), min_size=1, max_size=40))
def test_within_any_minute_nobody_exceeds_the_ceiling_by_more_than_a_second_s_burst(asked):
    row, seconds, granted = None, 0.0, []
    for pause_s, count, horizon_s in asked:
        seconds += pause_s
        decision = transition(row, take(count, horizon_s=horizon_s), at(seconds))
        row = decision.row
        granted += decision.moments
    granted.sort()
    for first, moment in enumerate(granted):
        within = [each for each in granted[first:] if each < moment + timedelta(minutes=1)]
        assert len(within) <= 61


def test_moments_ahead_of_time_lie_as_far_apart_as_the_rate_says():
    decision = transition(None, take(9, horizon_s=3.0), NOW)
    assert [(moment - NOW).total_seconds() for moment in decision.moments] == [0.0, 1.0, 2.0, 3.0]
    assert decision.held is Held.RATE
    assert decision.later == at(1)


def test_an_urgent_asker_s_longer_horizon_is_beyond_the_reach_of_the_others():
    flooded = transition(None, take(100, horizon_s=1.0), NOW).row
    assert transition(flooded, take(1, horizon_s=1.0), NOW).verdict is PaceVerdict.LATER
    [moment] = transition(flooded, take(1, horizon_s=4.0), NOW).moments
    assert moment == at(2)


def test_what_was_taken_and_never_used_is_gone_and_nothing_else_is():
    died = transition(None, take(10, horizon_s=1.0), NOW).row
    assert len(transition(died, take(10), at(60)).moments) == 1
    assert len(transition(died, take(10, horizon_s=9.0), at(60)).moments) == 10


def test_tokens_bind_where_they_are_scarcer_than_calls():
    ceiling = Ceiling(requests=6_000, tokens=6_000)
    asked = Take(KEY, "call", (100,) * 50, 0.0, 60.0, ceiling=ceiling)
    row, granted = None, 0
    for second in range(61):
        decision = transition(row, asked, at(second))
        row = decision.row
        granted += len(decision.moments)
    assert 59 <= granted <= 62


def test_a_call_of_more_tokens_than_a_minute_has_is_let_through_alone():
    ceiling = Ceiling(requests=600, tokens=1_000)
    asked = Take(KEY, "call", (5_000, 10), 0.0, 60.0, ceiling=ceiling)
    first = transition(None, asked, NOW)
    assert len(first.moments) == 1
    assert transition(first.row, take(1, ceiling=ceiling), at(240)).verdict is PaceVerdict.LATER
    assert transition(first.row, take(1, ceiling=ceiling), at(301)).verdict is PaceVerdict.APPLIED


@pytest.mark.parametrize("wanted", [100_000, 10_000_000, 10**15])
def test_a_call_that_asks_for_more_tokens_than_there_are_holds_others_back_for_minutes_and_not_for_hours(wanted):
    ceiling = Ceiling(requests=600, tokens=1_000)
    first = transition(None, Take(KEY, "call", (wanted, 10), 0.0, 60.0, ceiling=ceiling), NOW)
    assert len(first.moments) == 1
    assert transition(first.row, take(1, ceiling=ceiling), at(301)).verdict is PaceVerdict.APPLIED


def test_a_limit_in_the_headers_is_the_ceiling_where_none_is_configured_or_a_higher_one():
    told = end(Sign.ANSWERED, 0, headroom=Headroom(requests_limit=500, tokens_limit=30_000))
    row = after(None, (0, told), ceiling=Ceiling())
    assert per_minute(row, Ceiling(), NOW) == 500 * HEADROOM
    assert per_minute(row, Ceiling(requests=100), NOW) == 100
    assert per_minute(row, Ceiling(requests=9_000), NOW) == 500 * HEADROOM


def test_where_nothing_is_known_the_rate_doubles_every_second_until_a_limit_is():
    row = born(KEY, NOW)
    assert per_minute(row, Ceiling(), at(3)) == 8 * per_minute(row, Ceiling(), NOW)


def test_the_rate_climbs_back_by_the_same_step_every_second_and_never_above_the_ceiling():
    row = born(KEY, NOW).model_copy(update={"peak": 60.0, "cut_at": at(2)})
    rates = [per_minute(row, SIXTY, at(2 + climb_s(60) * quarter / 4)) for quarter in range(5)]
    steps = [later - earlier for earlier, later in pairwise(rates)]
    assert steps == pytest.approx([60 * (1 - CUT) / 4] * 4)
    assert per_minute(row, SIXTY, at(3_600)) == 60


def test_after_a_pause_the_rate_doubles_every_second_from_a_tenth_back_to_what_it_was():
    row = born(KEY, NOW).model_copy(update={"resumed_at": at(10)})
    fast = Ceiling(requests=6_000)
    assert [per_minute(row, fast, at(10 + second)) for second in range(5)] == [600, 1_200, 2_400, 4_800, 6_000]


def test_flex_without_capacity_rests_shortly_a_stalled_one_long_and_the_model_s_rate_stays():
    quick = after(None, (0, end(Sign.NO_CAPACITY, -1)))
    stalled = after(None, (0, end(Sign.STALLED, -1)))
    assert (quick.flex_not_before - NOW).total_seconds() <= 2
    assert (stalled.flex_not_before - NOW).total_seconds() >= 30
    for row in (quick, stalled):
        held = transition(row, take(1, flex=True), at(0.5))
        assert (held.verdict, held.held) == (PaceVerdict.LATER, Held.FLEX)
        assert transition(row, take(1), at(0.5)).moments == (at(0.5),)
        assert per_minute(row, SIXTY, at(0.5)) == 60


def test_refusals_of_flex_in_a_row_rest_longer_and_an_answer_on_flex_forgets_them():
    row = after(None, (0, end(Sign.NO_CAPACITY, -1)), (5, end(Sign.NO_CAPACITY, 4)), (15, end(Sign.NO_CAPACITY, 14)))
    assert row.flex_refused == 3
    assert (row.flex_not_before - at(15)).total_seconds() > 2
    assert after(row, (30, end(Sign.ANSWERED, 29))).flex_refused == 3
    assert after(row, (30, end(Sign.ANSWERED, 29, flex=True))).flex_refused == 0


def test_flex_that_refused_is_tried_by_one_call_at_a_time_until_one_is_answered():
    many = take(5, flex=True, ceiling=Ceiling(requests=6_000))
    trial = transition(after(None, (0, end(Sign.NO_CAPACITY, -1))), many, at(3))
    assert (trial.moments, trial.held) == ((at(3),), Held.FLEX)
    assert transition(trial.row, many, at(3.5)).moments == ()
    # Its process may have died, or it takes as long as an answer does: somebody else goes to see.
    assert len(transition(trial.row, many, trial.later).moments) == 1
    there = after(trial.row, (6, end(Sign.ANSWERED, 3, flex=True)))
    assert len(transition(there, many, at(6)).moments) == 5


def test_flex_on_trial_keeps_no_call_from_default():
    row = transition(after(None, (0, end(Sign.NO_CAPACITY, -1))), take(1, flex=True), at(3)).row
    assert len(transition(row, take(5, ceiling=Ceiling(requests=6_000)), at(3.1)).moments) == 5


def test_a_clock_that_is_behind_takes_nothing_back():
    ahead = transition(None, take(1), at(30)).row
    behind = transition(ahead, take(5), NOW)
    assert behind.verdict is PaceVerdict.LATER


def flooded(ceiling: Ceiling) -> PaceRow:
    """Others have drawn all that they may, a second ahead."""
    row = transition(None, take(500, ceiling=ceiling, horizon_s=1.0), NOW).row
    assert row is not None
    row = transition(row, take(500, ceiling=ceiling, horizon_s=1.0), at(30)).row
    assert row is not None
    return row


def test_an_urgent_call_begins_at_once_although_others_have_drawn_ahead():
    fast = Ceiling(requests=1_200)
    row = flooded(fast)
    late = transition(row, take(1, ceiling=fast, horizon_s=4.0), at(30))
    urgent = transition(row, take(1, ceiling=fast, horizon_s=4.0, urgent=True), at(30))
    assert late.moments[0] >= at(31)
    assert urgent.moments == (at(30),)


def test_urgent_calls_go_ahead_of_others_for_a_fifth_of_the_rate_and_never_beyond_it():
    fast = Ceiling(requests=1_200)
    row, urgent, normal = flooded(fast), 0, 0
    for tenth in range(600):
        now = at(30 + tenth / 10)
        decision = transition(row, take(10, ceiling=fast, horizon_s=0.0, urgent=True), now)
        urgent += len(decision.moments)
        decision = transition(decision.row, take(10, ceiling=fast, horizon_s=1.0), now)
        row, normal = decision.row, normal + len(decision.moments)
    assert 0.18 * 1_200 <= urgent <= 0.22 * 1_200 + 5
    assert urgent + normal <= 1_200 + 25


SMALL_AND_LARGE = (5e-324, 1e-300, 1e-9, 0.5, 0.0, -1.0, 1e13, 1e300, 1.7e308)


@pytest.mark.parametrize("limit", SMALL_AND_LARGE)
@pytest.mark.parametrize("name", ["requests_limit", "tokens_limit"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_limit_that_can_be_none_stops_no_call_however_it_came_into_the_row(name, limit, kept):
    """Once such a limit was in the row, no later call of the model could be granted its moment."""
    row = born(KEY, at(0)).model_copy(update={name: limit} if kept else {})
    told = () if kept else (end(Sign.ANSWERED, 0, headroom=Headroom(**{name: limit})),)
    granted = 0
    for seconds in range(0, 900, 10):
        asked = Take(KEY, "call", (9, 9, 9), 4.0, 60.0, told=told)
        decision = transition(row, asked, at(seconds))
        row, granted = decision.row, granted + len(decision.moments)
        per_minute(row, Ceiling(), at(seconds))
    assert granted >= 10
    assert kept or getattr(row, name) is None
