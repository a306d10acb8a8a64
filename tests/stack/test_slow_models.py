"""A slow model's backlog, where few functions are free, does not hold up another model's tasks."""

from __future__ import annotations

from typing import Any

import pytest
from stack_cases import START, Stage, task

from lowtide.core.acceptance import accept
from lowtide.steps.carry import send_tasks
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario

SLOW, QUICK = "gpt-4o", "gpt-4o-mini"
TWO = {"HighConcurrency": "2", "NormalConcurrency": "2", "CriticalConcurrency": "2"}
WEATHER = Scenario(
    latency=Latencies(default=Latency(min_s=0.5, max_s=0.5), flex=Latency(min_s=0.5, max_s=0.5)), hang_s=20
)


def arrive(stage: Stage, tasks: list[dict[str, Any]], *, together: int) -> None:
    """On their tier's queue, so many in a message."""
    system = stage.stack.system()
    accepted = [accept(each, origin="test", sent_at=START, routes=system.routes) for each in tasks]
    for at in range(0, len(accepted), together):
        send_tasks(system, accepted[at : at + together])


def backlog(count: int, kind: str) -> list[dict[str, Any]]:
    return [task(f"s{number}", kind, "[sim:timeout]", model=SLOW) for number in range(count)]


@pytest.mark.parametrize("together", [1, 10])
@pytest.mark.parametrize("kind", ["email_draft", "meeting_summary"])
def test_another_model_s_tasks_are_answered_within_seconds_behind_three_hundred_slow_ones(stage, kind, together):
    played = stage(WEATHER, parameters=TWO)
    arrive(played, backlog(300, kind), together=together)
    quick = [task(f"q{number}", kind, model=QUICK) for number in range(5)]
    arrive(played, quick, together=together)
    played.stack.wait(120)
    took = {n: (r.finished_at - START).total_seconds() for n, r in played.records().items() if n.startswith("q")}

    assert set(took) == {each["task_id"] for each in quick}
    assert max(took.values()) <= 6
    assert played.stack.failures == []
