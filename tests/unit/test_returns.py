"""A message that is given back again and again: quick at first, and never a thousand times before its queue ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.returns import AT_WILL, LONGEST_S, MOST_RECEIVES, away_s

SENT = datetime(2026, 3, 2, 8, tzinfo=UTC)
RETENTION = timedelta(days=10)
"""Of the queues in template.yaml."""


def received(wait_s: float, *deadlines_s: float) -> list[float]:
    """The ages, in seconds, at which a message is received that is always given back for ``wait_s``."""
    deadlines = [SENT + timedelta(seconds=each) for each in deadlines_s]
    now, ages = SENT, []
    while now - SENT < RETENTION:
        ages.append((now - SENT).total_seconds())
        now += timedelta(seconds=round(away_s(wait_s, len(ages), SENT, deadlines, now)))
        if len(ages) > MOST_RECEIVES:
            break
    return ages


@pytest.mark.parametrize("wait_s", [0.0, 0.4, 1.0, 7.5, 60.0, 300.0, 450.0])
def test_whatever_it_is_given_back_for_a_message_lives_as_long_as_its_queue_keeps_it(wait_s):
    assert len(received(wait_s)) <= MOST_RECEIVES - 100


@given(st.lists(st.integers(min_value=30, max_value=10 * 86_400), max_size=10), st.floats(min_value=0, max_value=60))
def test_so_does_a_pack_whose_tasks_have_deadlines_of_their_own(deadlines_s, wait_s):
    assert len(received(wait_s, *deadlines_s)) <= MOST_RECEIVES


def test_its_first_hundred_returns_are_as_quick_as_their_reasons():
    now = SENT + timedelta(hours=3)
    assert [away_s(0.5, receives, SENT, (), now) for receives in (1, AT_WILL - 1)] == [0.5, 0.5]
    assert away_s(0.5, AT_WILL, SENT, (), now) == 216


def test_a_wait_that_is_longer_anyway_is_left_alone():
    assert away_s(7_200, 900, SENT, (), SENT + timedelta(days=9)) == 7_200


def test_what_kept_it_waiting_is_found_over_a_fiftieth_of_its_age_too_late_and_never_by_more_than_forty_minutes():
    now = SENT + timedelta(days=5)
    assert away_s(1, 600, SENT, (), now) == LONGEST_S
    assert away_s(1, 600, SENT, (), SENT + timedelta(hours=10)) == 720


def test_a_task_with_time_left_is_back_at_half_of_it():
    now = SENT + timedelta(hours=23)
    assert away_s(1, 500, SENT, [SENT + timedelta(hours=23, minutes=10)], now) == 300
    assert away_s(1, 500, SENT, [SENT + timedelta(hours=1)], now) == 1_656
