"""The benchmark of a day on which flex comes and goes, small enough for every run."""

from __future__ import annotations

from bench import flex

HOURS, GONE_H = 3, ((0.5, 1.5),)


def test_while_flex_comes_and_goes_every_deadline_is_met_and_money_is_saved(tmp_path):
    figures = flex.measure(tmp_path, per_hour=30, hours=HOURS, gone_h=GONE_H)
    assert figures.good, figures
    assert figures.tasks == 90
    assert 0.6 <= figures.on_flex / figures.tasks < 1
    assert figures.cost_usd < figures.default_usd


def test_tasks_that_may_ask_flex_as_often_as_they_like_wait_for_it_and_are_in_time_all_the_same(tmp_path):
    few, many = (
        flex.measure(tmp_path / str(refusals), per_hour=30, hours=HOURS, gone_h=GONE_H, refusals=refusals)
        for refusals in (3, 1_000)
    )
    assert many.good, many
    assert many.on_flex > few.on_flex
    assert many.latest_s < few.latest_s
