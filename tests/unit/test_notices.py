"""What a person who waits for a run is told, and how often."""

from __future__ import annotations

from lowtide_local.run.notices import RunMetrics


def test_why_nothing_seems_to_happen_is_said_once():
    told: list[str] = []
    metrics = RunMetrics(told.append)
    for _ in range(3):
        metrics.count("calls_held", reason="flex")
        metrics.count("calls_held", reason="rate")
        metrics.count("tasks_waiting_off_peak", tier="NORMAL")
        metrics.count("calls", tier="NORMAL")
        metrics.log("message_failed", error="for operators")
    assert [line.split(":")[0].split(" in which")[0] for line in told] == [
        "flex has no capacity",
        "tasks wait for the hours",
    ]


def test_a_model_that_goes_down_once_more_is_news_and_one_that_stays_down_is_not():
    told: list[str] = []
    metrics = RunMetrics(told.append)
    metrics.log("breaker_open", breaker="openai gpt-5-mini", opens=1)
    metrics.log("breaker_open", breaker="openai gpt-5-mini", opens=2)
    metrics.log("breaker_open", breaker="openai", opens=1)
    metrics.log("breaker_closed", breaker="openai gpt-5-mini")
    metrics.log("breaker_open", breaker="openai gpt-5-mini", opens=1)
    assert [line.partition(" does not answer")[0] for line in told] == [
        "openai gpt-5-mini",
        "openai",
        "openai gpt-5-mini",
    ]
