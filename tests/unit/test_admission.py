"""Admission: when a tier has too much, and how long what it does not take waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lowtide.core.admission import Cap, Level, Mark, over, wait_s
from lowtide.core.tiers import Tier

CAP = Cap(depth=10, age_s=60)
NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize("level", [Level(0, 0.0), Level(9, 60.0)])
def test_a_tier_below_both_caps_takes_more(level):
    assert over(Tier.HIGH, CAP, level) is None


def test_a_tier_that_is_too_deep_says_how_deep_and_what_its_cap_is():
    assert over(Tier.HIGH, CAP, Level(10)) == "HIGH holds 10 messages, and its cap is 10"


def test_a_tier_whose_oldest_message_is_too_old_says_how_old():
    assert over(Tier.HIGH, CAP, Level(1, 61.0)) == "the oldest message of HIGH has waited 61 s, and its cap is 60 s"


def test_what_waits_comes_again_later_each_time_and_never_more_than_a_quarter_of_an_hour():
    assert [wait_s(receives) for receives in (1, 2, 3, 4, 5, 6, 7, 8, 1000)] == [
        *(10, 20, 40, 80, 160, 320, 640, 900),
        900,
    ]


def test_a_thousand_receives_last_longer_than_the_queue_keeps_a_message():
    assert sum(wait_s(receives) for receives in range(1, 1001)) > timedelta(days=10).total_seconds()


def test_an_age_counts_on_from_its_mark_while_something_waits():
    mark = Mark(at=NOW, oldest_s=5)
    assert mark.oldest_by(NOW + timedelta(seconds=30), 1) == 35
    assert mark.oldest_by(NOW + timedelta(seconds=30), 0) == 0
    assert mark.oldest_by(NOW - timedelta(seconds=30), 1) == 5
