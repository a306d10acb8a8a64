"""When a deadline takes work out of a batch."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.batches import BatchState
from lowtide.core.history import Eta, History
from lowtide.core.rescues import (
    BATCH_PRIOR,
    GIVEN_UP_AFTER,
    Margins,
    given_up,
    near,
    rescue_due,
    seal_by,
    think_of_rescue_at,
    too_soon_for_another,
)
from tests.contract.cases import NOW, batch

MARGINS = Margins(cancel=timedelta(minutes=10), answer=timedelta(minutes=15), per_second=1)
QUICK = Eta((300.0, 600.0, 900.0))
STUCK = Eta((300.0,))


def running(*, minutes: float, left_minutes: float, requests: int = 60, **changes):
    return batch(
        state=BatchState.RUNNING,
        submitted_at=NOW - timedelta(minutes=minutes),
        tightest_deadline=NOW + timedelta(minutes=left_minutes),
        requests=requests,
        **changes,
    )


def test_a_batch_is_rescued_when_cancel_and_answers_just_fit_and_not_before():
    # 10 minutes to cancel, 15 to answer, and a second for each of the 60.
    assert rescue_due(running(minutes=20, left_minutes=26), NOW, STUCK, MARGINS)
    assert not rescue_due(running(minutes=20, left_minutes=26.1), NOW, STUCK, MARGINS)


def test_more_tasks_need_an_earlier_rescue():
    assert not rescue_due(running(minutes=20, left_minutes=60), NOW, STUCK, MARGINS)
    assert rescue_due(running(minutes=20, left_minutes=60, requests=3_000), NOW, STUCK, MARGINS)


def test_a_batch_that_is_all_but_sure_to_end_in_time_is_left_alone():
    assert not rescue_due(running(minutes=1, left_minutes=20), NOW, QUICK, MARGINS)
    assert rescue_due(running(minutes=16, left_minutes=20), NOW, QUICK, MARGINS)


def test_a_batch_that_is_late_already_is_rescued_all_the_same():
    assert rescue_due(running(minutes=1, left_minutes=-5), NOW, QUICK, MARGINS)


def test_a_batch_is_rescued_once_and_only_while_it_runs():
    assert not rescue_due(running(minutes=20, left_minutes=5, rescued_at=NOW), NOW, STUCK, MARGINS)
    sealed = running(minutes=20, left_minutes=5).model_copy(update={"state": BatchState.SEALED})
    assert not rescue_due(sealed, NOW, STUCK, MARGINS)


def test_a_batch_is_given_up_48_hours_after_its_submission_and_no_sooner():
    row = running(minutes=0, left_minutes=0)
    assert not given_up(row, NOW + GIVEN_UP_AFTER - timedelta(seconds=1))
    assert given_up(row, NOW + GIVEN_UP_AFTER)
    assert not given_up(batch(), NOW + 10 * GIVEN_UP_AFTER)


def test_another_batch_needs_its_likely_time_beside_the_margins_and_a_first_one_its_safe_time():
    assert too_soon_for_another(NOW, 60, QUICK, MARGINS) == NOW + timedelta(minutes=26 + 10)
    assert seal_by(QUICK, 60, MARGINS) == timedelta(minutes=26 + 15)


def test_a_batch_that_does_not_run_yet_is_near_its_deadline_like_any_other():
    sealed = running(minutes=20, left_minutes=26).model_copy(update={"state": BatchState.SEALED, "submitted_at": None})
    assert think_of_rescue_at(sealed, MARGINS) == NOW
    assert near(sealed, NOW, MARGINS)
    assert not rescue_due(sealed, NOW, STUCK, MARGINS)


def test_with_no_history_half_of_the_batches_end_in_about_seven_minutes_and_nine_in_ten_within_about_an_hour():
    eta = History().eta(10, BATCH_PRIOR)
    assert eta.within_s(50) == pytest.approx(420, rel=0.15)
    assert eta.within_s(90) == pytest.approx(3_600, rel=0.3)
