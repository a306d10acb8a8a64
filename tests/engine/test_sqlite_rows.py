from __future__ import annotations

import time

import pytest

from lowtide.core.errors import TooLarge
from lowtide.core.tasks import Accept, ClaimCall
from lowtide.ports import Change
from lowtide_local.engine.engine import Engine
from tests.contract.cases import NOW, SOON, claim_call, on, settle, task


def test_counts_are_per_state(engine: Engine) -> None:
    assert engine.tasks.counts() == {}
    for number in range(3):
        engine.tasks.apply(on(task(number).key, Accept(task(number))), NOW)
    engine.tasks.apply(on(task(1).key, claim_call(task(1)), settle("call-1")), NOW)
    assert engine.tasks.counts() == {"queued": 2, "answered": 1}
    assert engine.parts.counts() == {}


def test_scan_gives_every_row_in_the_order_of_creation(engine: Engine) -> None:
    order = [(number * 7) % 500 for number in range(500)]
    engine.tasks.apply([Change(task(number).key, Accept(task(number))) for number in order], NOW)
    engine.tasks.apply([Change(task(number).key, claim_call(task(number))) for number in sorted(order)], NOW)
    assert [row.task_id for row in engine.tasks.scan()] == [f"t_{number}" for number in order]


def test_a_scan_bears_writes_meanwhile(engine: Engine) -> None:
    engine.tasks.apply([Change(task(number).key, Accept(task(number))) for number in range(300)], NOW)
    seen = 0
    for row in engine.tasks.scan():
        key = task(int(row.task_id.removeprefix("t_"))).key
        engine.tasks.apply([Change(key, claim_call(task(int(row.task_id.removeprefix("t_")))))], NOW)
        seen += 1
    assert seen == 300
    assert engine.tasks.counts() == {"calling": 300}


def test_a_list_with_one_row_too_large_writes_none(engine: Engine) -> None:
    large = ClaimCall(task(2), "x" * 410_000, SOON)
    with pytest.raises(TooLarge):
        engine.tasks.apply([*on(task(1).key, claim_call(task(1))), *on(task(2).key, large)], NOW)
    assert engine.tasks.get([task(1).key, task(2).key]) == [None, None]


def test_five_thousand_tasks_are_claimed_and_settled_in_seconds(engine: Engine) -> None:
    began = time.perf_counter()
    tasks = [task(number) for number in range(5000)]
    claims = engine.tasks.apply([Change(each.key, claim_call(each)) for each in tasks], NOW)
    ends = [Change(each.key, settle("call-1"), claim.row) for each, claim in zip(tasks, claims, strict=True)]
    assert all(decision.changed for decision in engine.tasks.apply(ends, NOW))
    assert time.perf_counter() - began < 15
