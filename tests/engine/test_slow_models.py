"""The embedded engine: a slow model's backlog does not hold up another model's tasks, and is done no later for that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lowtide.core.acceptance import accept
from lowtide.core.tiers import Tier
from lowtide.ports import Message
from lowtide.steps.carry import send_tasks
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario
from tests.sweep.world import START, Life, World, routes, task

SLOW, QUICK = "gpt-4o", "gpt-4o-mini"
CONCURRENCY = routes().tiers[Tier.HIGH].concurrency


class Played:
    """Seconds until each task was settled, and how often each message was received."""

    def __init__(self, directory: Path, tasks: list[dict[str, Any]], *, together: int, call_s: float, slow_s: float):
        latency = Latency(min_s=call_s, max_s=call_s)
        self.world = World(directory, Scenario(latency=Latencies(default=latency, flex=latency), hang_s=slow_s))
        self.receives = Counter[str]()

        async def story(life: Life) -> dict[str, float]:
            accepted = [accept(each, origin="test", sent_at=START, routes=life.system.routes) for each in tasks]
            for at in range(0, len(accepted), together):
                send_tasks(life.system, accepted[at : at + together])
            life.system.tiers[Tier.HIGH] = Counted(life.system.tiers[Tier.HIGH], self.receives)
            began = life.system.clock.now()
            await life.work()
            return {
                row.task_id: (row.settled_at - began).total_seconds()
                for row in life.engine.tasks.scan()
                if row.settled_at is not None
            }

        self.took_s = self.world.live(story)


class Counted:
    def __init__(self, queue: Any, receives: Counter[str]) -> None:
        self._queue = queue
        self._receives = receives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def receive(self, limit: int, *, visibility_s: int) -> list[Message]:
        messages = self._queue.receive(limit, visibility_s=visibility_s)
        self._receives.update(message.id for message in messages)
        return messages


def slow(count: int) -> list[dict[str, Any]]:
    return [task(f"s{number}", "email_draft", "[sim:timeout]", model=SLOW) for number in range(count)]


def quick(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [task(f"q{number}", "email_draft", model=QUICK, **fields) for number in range(count)]


@pytest.mark.parametrize("together", [1, 10])
def test_another_model_s_tasks_are_answered_within_seconds_behind_three_hundred_slow_ones(tmp_path, together):
    played = Played(tmp_path, [*slow(300), *quick(5)], together=together, call_s=0.5, slow_s=20)
    assert max(played.took_s[f"q{number}"] for number in range(5)) <= 5
    assert len(played.took_s) == 305
    rounds = -(-300 // CONCURRENCY)
    assert max(played.took_s.values()) <= rounds * 20 * 1.03, "the slow ones are done as early as they can be"
    assert played.world.provider.requests["POST /v1/chat/completions"] == 305, "nothing is tried more often"
    assert max(played.receives.values()) <= 80
    assert sum(played.receives.values()) <= 8 * 305


@pytest.mark.parametrize("together", [1, 10])
def test_a_model_that_is_alone_takes_no_longer_than_its_slots_need(tmp_path, together):
    played = Played(tmp_path, quick(600), together=together, call_s=0.5, slow_s=0)
    # Two seconds more, because the gate grants the first moments of a model in slices of a second.
    assert max(played.took_s.values()) <= 600 / CONCURRENCY * 0.5 + 2
    assert sum(played.receives.values()) <= 2 * len(played.receives)


def test_three_slow_models_together_do_not_hold_up_a_fourth(tmp_path):
    models = (SLOW, "gpt-4.1-mini", "gpt-5-mini")
    ahead = [
        task(f"s{number}", "email_draft", "[sim:timeout]", model=models[number % len(models)]) for number in range(300)
    ]
    played = Played(tmp_path, [*ahead, *quick(5)], together=1, call_s=0.5, slow_s=20)
    assert max(played.took_s[f"q{number}"] for number in range(5)) <= 6
