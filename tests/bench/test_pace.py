"""The benchmarks of pace and breaker, small enough for every run, held to their aims."""

from __future__ import annotations

import pytest

from bench import outage, pace


@pytest.mark.parametrize("consumers", [1, 8])
def test_a_limit_that_the_provider_tells_is_used_to_nine_tenths_and_not_exceeded(tmp_path, consumers):
    figures = pace.measure(tmp_path, per_minute=120, minutes=3, consumers=consumers, told=True)
    assert 0.9 <= figures.used <= 1.02
    assert figures.limited == 0


def test_a_limit_that_only_429s_tell_is_found_and_used_by_many_consumers(tmp_path):
    figures = pace.measure(tmp_path, per_minute=240, minutes=4, consumers=8, told=False)
    assert figures.good, figures


def test_an_outage_at_full_load_loses_and_kills_nothing(tmp_path):
    figures = outage.measure(tmp_path, per_minute=120, tasks=200, consumers=4, from_s=30)
    assert (figures.lost, figures.dead) == (0, 0)
    assert figures.struck <= 20
    assert figures.first_s <= 90
