"""Floods small enough for every run: CRITICAL is no slower for them, nor is a small tenant."""

from __future__ import annotations

from bench import fair, few_functions, flood
from bench.tiers import percentile


def test_critical_takes_no_longer_while_a_flood_of_normal_is_worked_off(tmp_path):
    alone, flooded = (
        flood.measure(tmp_path / str(size), per_minute=1_200, seconds=10, flood=size, preemption=True)
        for size in (0, 400)
    )
    assert len(alone) == len(flooded) == 20
    assert percentile(flooded, 99) <= flood.MOST * percentile(alone, 99)


def test_where_functions_are_short_preemption_gives_them_back_to_critical_sooner(tmp_path):
    alone, flooded, unpreempted = (
        percentile(few_functions.measure(tmp_path / name, seconds=20, flood=size, preemption=preemption), 99)
        for name, size, preemption in (("alone", 0, True), ("on", 2_000, True), ("off", 2_000, False))
    )
    longest_call_s = few_functions.WEATHER.latency.flex.max_s
    assert alone < 3
    assert flooded <= longest_call_s, "calls under way are not cut off"
    assert unpreempted > longest_call_s, "all that was in hand was called for first"


def test_ten_tasks_of_one_tenant_do_not_wait_for_hundreds_of_another_s(tmp_path):
    alone = fair.measure(tmp_path / "alone", per_minute=600, big=0, small=10)
    beside = fair.measure(tmp_path / "beside", per_minute=600, big=800, small=10)
    assert len(beside) == 10
    # The eight hundred take more than a minute at this rate.
    assert beside[-1] <= alone[-1] + 5
