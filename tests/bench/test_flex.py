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


def test_who_comes_in_the_last_hour_without_flex_waits_for_it_and_hardly_asks_in_vain(tmp_path):
    figures = flex.measure(tmp_path, per_hour=30, hours=HOURS, gone_h=((0.5, 1.25),))
    assert figures.good, figures
    assert figures.on_flex / figures.tasks > 0.95
    # One call at a time sees whether flex is there again, twice a minute.
    assert figures.calls - figures.tasks < 0.75 * 60 * 3


def test_a_wave_that_waits_for_flex_begins_to_go_on_default_while_there_is_time_for_all_of_it(tmp_path):
    figures = flex.measure(tmp_path, per_hour=24_000, hours=1 / 60, gone_h=((0, 2),), functions=4)
    assert figures.good, figures
    assert (figures.tasks, figures.on_flex) == (400, 0)
