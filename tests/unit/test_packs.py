"""Packs: every task travels, in order, in messages that a queue takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.packs import PACK_BYTES, packs, unpack

ROUTES = shipped_routes()
NOW = datetime(2026, 3, 2, tzinfo=UTC)


def accepted(number: int, size: int):
    raw = {"task_id": f"t{number}", "type": "email_draft", "payload": {"text": "é" * (size // 2)}}
    return accept(raw, origin=str(number), sent_at=NOW, routes=ROUTES)


@given(sizes=st.lists(st.sampled_from([0, 100, 30_000, 130_000, 300_000]), max_size=12), most=st.integers(1, 5))
def test_packs_keep_every_task_in_order_and_stay_within_their_bounds(sizes, most):
    tasks = [accepted(number, size) for number, size in enumerate(sizes)]
    packed = list(packs(tasks, most=most))
    assert [task for body, _ in packed for task in unpack(body)] == tasks
    assert [task for _, held in packed for task in held] == tasks
    for body, held in packed:
        assert 1 <= len(held) <= most
        assert len(held) == 1 or len(body.encode()) <= PACK_BYTES + 100


def test_a_task_larger_than_a_pack_travels_alone():
    packed = list(packs([accepted(1, 10), accepted(2, 300_000), accepted(3, 10)], most=10))
    assert [[task.task_id for task in held] for _, held in packed] == [["t1"], ["t2"], ["t3"]]


def test_no_tasks_make_no_pack():
    assert list(packs([], most=10)) == []


@pytest.mark.parametrize("body", ["", "no JSON", '{"tasks": [{"task_id": "x"}]}'])
def test_a_body_that_no_pack_made_is_a_value_error(body):
    with pytest.raises(ValueError, match=r"."):
        unpack(body)
