"""What a model's row remembers of its lanes: the last calls, the refusals of late, and nothing that is old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.lane_past import EACH_TIME, ENOUGH, KEPT, LATELY, LanePast
from lowtide.core.pace import transition
from lowtide.core.pace_events import CallEnd, Sign, Tell
from lowtide.core.pace_rows import PaceRow
from lowtide.core.past import UNKNOWN, past_of

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
KEY = "openai gpt-5-mini"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def answered(granted: float, *seconds: float, flex: bool = True) -> CallEnd:
    return CallEnd(Sign.ANSWERED, at(granted), "call", "witness", flex=flex, count=len(seconds), seconds=seconds)


def refused(granted: float, sign: Sign = Sign.NO_CAPACITY, *seconds: float) -> CallEnd:
    return CallEnd(sign, at(granted), "call", "witness", flex=True, seconds=seconds)


def told(*ends: CallEnd, row: PaceRow | None = None, after_s: float = 0.0) -> PaceRow:
    """The row once each of these was told, a second after the other."""
    for number, end in enumerate(ends):
        row = transition(row, Tell(KEY, (end,)), at(after_s + number)).row
    assert row is not None
    return row


def test_where_nothing_was_heard_nothing_is_known():
    assert past_of(None, NOW) == past_of(told(answered(0)), NOW) == UNKNOWN


def test_a_lane_s_past_speaks_once_enough_calls_have_ended():
    few = told(*(answered(0, 40.0) for _ in range(ENOUGH - 1)))
    assert past_of(few, at(10)).flex_s is None
    assert past_of(told(answered(0, 40.0), row=few, after_s=20), at(21)).flex_s == 40.0


def test_nine_in_ten_calls_end_within_what_is_said_and_the_lanes_are_told_apart():
    slow_one_in_ten = [3.0] * 9 + [200.0]
    row = told(*(answered(0, each) for each in slow_one_in_ten), *(answered(0, 2.0, flex=False) for _ in range(10)))
    past = past_of(row, at(20))
    assert (past.flex_s, past.default_s) == (3.0, 2.0)
    assert past_of(told(answered(0, 200.0), row=row, after_s=20), at(21)).flex_s == 200.0


def test_of_many_calls_told_together_a_few_are_kept_so_that_others_are_still_heard():
    row = told(*(answered(0, 5.0) for _ in range(KEPT)), answered(0, *[90.0] * 500), after_s=0)
    assert row.on_flex.seconds.count(90.0) == EACH_TIME
    assert len(row.on_flex.seconds) == KEPT


def test_news_of_a_lane_is_wanted_while_little_is_known_or_a_minute_is_over():
    known = told(*(answered(0, 5.0) for _ in range(ENOUGH))).on_flex
    assert LanePast().wants(NOW)
    assert not known.wants(at(60))
    assert known.wants(at(75))


@given(st.lists(st.lists(st.floats(0, 900), max_size=60), max_size=12))
def test_a_row_never_grows_beyond_what_it_keeps(tells):
    past = LanePast()
    for seconds in tells:
        past = past.took(seconds, NOW) if seconds else past.found_none(NOW)
    assert len(past.seconds) <= KEPT
    assert 0 <= past.refused <= 1
    assert len(past.model_dump_json()) <= 200


def test_eight_refusals_in_a_row_are_four_fifths_and_answers_take_them_back():
    row = told(*(refused(499.5 + number) for number in range(8)), after_s=500)
    assert past_of(row, at(600)).flex_refused >= 0.8
    again = told(answered(700, 5.0), answered(700, 5.0, 5.0), row=row, after_s=710)
    assert past_of(again, at(720)).flex_refused == pytest.approx(0.8**3 * (1 - 0.8**8), abs=0.01)


def test_calls_refused_together_are_one_refusal():
    row = told(*(refused(-1) for _ in range(30)))
    assert past_of(row, NOW).flex_refused < 0.5


def test_a_call_that_stalled_took_at_least_all_its_time():
    row = told(*(refused(899.5 + number, Sign.STALLED, 240.0) for number in range(ENOUGH)), after_s=900)
    assert past_of(row, at(1000)).flex_s == 240.0


def test_what_is_older_than_an_hour_is_forgotten():
    row = told(*(answered(0, 5.0) for _ in range(ENOUGH)), refused(5))
    assert past_of(row, at(60)).flex_s == 5.0
    late = at(60) + LATELY
    assert (past_of(row, late).flex_s, past_of(row, late).flex_refused) == (None, 0.0)


def test_a_resting_lane_says_for_how_long():
    row = told(refused(-1, Sign.STALLED, 240.0))
    assert row.flex_not_before is not None
    assert past_of(row, NOW).flex_rests_s == (row.flex_not_before - NOW).total_seconds() > 0
    limited = told(*[CallEnd(Sign.LIMITED, at(-1), "call", retry_after_s=20.0) for _ in range(3)])
    assert (past_of(limited, at(2)).held_s, past_of(limited, at(2)).flex_rests_s) == (20.0, 0.0)
    assert past_of(limited, at(30)).held_s == 0.0
