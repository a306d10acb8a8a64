"""What a history says of durations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.history import ENOUGH, KEPT, Eta, History, Prior, Sample

PRIOR = Prior(median_s=10, p90_s=100)
THREE = Eta((300.0, 600.0, 900.0))


def noted(*seconds: float, size: int = 10) -> History:
    history = History()
    for number, each in enumerate(seconds):
        history = history.noted(Sample(name=f"b{number}", size=size, seconds=each))
    return history


def test_with_nothing_seen_yet_the_prior_speaks():
    eta = History().eta(10, PRIOR)
    assert eta.within_s(50) == pytest.approx(10, rel=0.15)
    assert eta.within_s(90) == pytest.approx(100, rel=0.3)


def test_a_history_of_its_own_takes_the_place_of_the_prior():
    assert noted(*[7.0] * ENOUGH).eta(10, PRIOR).within_s(99) == 7
    assert noted(*[7.0] * (ENOUGH - 1)).eta(10, PRIOR).within_s(99) > 7


def test_those_of_its_size_speak_before_all_others():
    history = noted(*[100.0] * ENOUGH)
    for number in range(ENOUGH):
        history = history.noted(Sample(name=f"large{number}", size=40_000, seconds=9_000))
    assert history.eta(20, PRIOR).within_s(90) == 100
    assert history.eta(50_000, PRIOR).within_s(90) == 9_000
    assert history.eta(500, PRIOR).within_s(90) == 9_000


def test_one_that_is_noted_twice_is_one_and_the_oldest_are_forgotten():
    once = noted(1.0, 2.0)
    assert once.noted(Sample(name="b1", size=10, seconds=2.0)) == once
    assert len(noted(*[1.0] * (KEPT + 5)).samples) == KEPT


def test_a_history_survives_being_written_down():
    history = noted(1.0, 2.5)
    assert History.model_validate_json(history.model_dump_json()) == history


def test_what_is_left_is_judged_by_those_that_ran_longer():
    assert THREE.remaining_s(500, 50) == 100
    assert math.isinf(THREE.remaining_s(900, 50))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100), st.floats(0, 1e6))
def test_what_is_left_is_never_less_than_nothing(seconds, percent, elapsed):
    assert Eta(sorted(seconds)).remaining_s(elapsed, percent) >= 0
