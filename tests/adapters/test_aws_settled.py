"""Settled tasks are found in the order in which they settled, from the write that settles them on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from aws_cases import NOW, SETTLE, Calls, task

from lowtide.adapters.aws.rows import TASKS, DynamoRows
from lowtide.adapters.aws.settled_index import SettledIndex
from lowtide.core.records import Status
from lowtide.core.tasks import Cancel, ClaimCall, Redrive
from lowtide.ports import Change
from tests.contract.aws import Stand


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def settle(aws: Stand, number: int, seconds: float, **changes: Any) -> str:
    accepted = task(number)
    claim = ClaimCall(accepted, "call-1", at(seconds + 30))
    rows = DynamoRows(aws.table(), TASKS)
    rows.apply([Change(accepted.key, claim), Change(accepted.key, replace(SETTLE, **changes))], at(seconds))
    return accepted.key


def found(aws: Stand, since: Any = None) -> list[tuple[str, Any]]:
    return [(entry.key.partition(" ")[0], entry.at) for entry in SettledIndex(aws.table()).since(since)]


def test_tasks_come_in_the_order_in_which_they_settled_whatever_their_partition(aws):
    for number in range(40, 0, -1):
        settle(aws, number, number, status=Status.DEAD if number % 3 else Status.ANSWERED)
    assert found(aws) == [(f"t_{number}", at(number)) for number in range(1, 41)]
    assert found(aws, at(38)) == [(f"t_{number}", at(number)) for number in (38, 39, 40)]
    assert found(aws, at(38.001)) == [(f"t_{number}", at(number)) for number in (39, 40)]
    assert found(aws, at(41)) == []


def test_work_and_what_a_redrive_replaces_are_not_in_it(aws):
    settle(aws, 1, 0, status=Status.DEAD)
    rows = DynamoRows(aws.table(), TASKS)
    rows.apply([Change(task(2).key, ClaimCall(task(2), "call-1", at(30)))], NOW)
    rows.apply([Change("t_3 acme", Cancel("acme", "t_3"))], NOW)
    assert found(aws) == [("t_1", NOW)]
    again = task(1, generation=1, accepted_at=at(60))
    rows.apply([Change(again.key, Redrive(again, Decimal(0)))], at(60))
    assert found(aws) == []
    end = replace(SETTLE, holders=frozenset({"call-2"}), attempt=2)
    rows.apply([Change(again.key, ClaimCall(again, "call-2", at(90))), Change(again.key, end)], at(61))
    assert found(aws) == [("t_1", at(61))]


def test_pages_are_read_as_they_are_needed(aws, monkeypatch):
    for number in range(1, 61):
        settle(aws, number, number)
    usual = aws.dynamodb.query
    monkeypatch.setattr(aws.dynamodb, "query", lambda **how: usual(**how, Limit=1))
    calls = Calls(aws.dynamodb)
    entries = SettledIndex(aws.table()).since(None)
    assert next(entries).key == task(1).key
    assert len(calls.names) < 2 * 16, "a page of each partition, and no more"
    assert len([*entries]) == 59
    assert len(calls.names) >= 60
