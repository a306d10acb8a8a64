"""A small mixed workload through the benchmark of ``auto``."""

from __future__ import annotations

from bench.auto import played, routes_of, workload
from lowtide.core.routes import AUTO, COMPLEX


def test_auto_costs_less_than_complex_for_all_with_every_question_on_the_bill():
    tasks = workload(60, seed=3, easy=0.5, hard=0.2)
    auto, complex_ = played(tasks, routes_of(AUTO)), played(tasks, routes_of(COMPLEX))
    assert auto.broken == complex_.broken == []
    assert auto.answered == complex_.answered == len(tasks)
    assert (auto.questions, complex_.questions) == (60, 0)
    assert 0 < auto.asking_usd < auto.cost_usd < complex_.cost_usd
    assert len(auto.by_model) == 3
