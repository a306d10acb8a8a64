"""``lowtide pause`` and ``resume``: LOW work waits in parts on a deployed stack, and goes on."""

from __future__ import annotations

import json

from lowtide.core.records import Status
from tests.stack.stack_cases import low, task

DAY_S = 86_400


def test_paused_work_leaves_its_queue_and_goes_on_when_it_is_resumed(stage, lowtide):
    played = stage()
    ended = lowtide("pause", "--all", "--reason", "over budget")
    assert ended.code == 0
    assert "all LOW is paused (over budget)" in ended.out
    played.send(low("a"), low("b"), task("now"))
    played.stack.wait(3_600)
    document = json.loads(lowtide("status", "--json").out)
    assert document["queues"]["LOW"] == {"visible": 0, "in_flight": 0, "delayed": 0}
    assert sum(each["tasks"] for each in document["parts"].values()) == document["parts"]["held"]["tasks"] == 2
    assert document["batches"] == {}
    assert [(hold["scope"], hold["reason"]) for hold in document["holds"]] == [("all LOW", "over budget")]
    assert "paused all LOW" in lowtide("status").out
    assert played.row("now").state == "answered"
    again = json.loads(lowtide("pause", "--all", "--json").out)
    assert (again["already"], again["reason"], again["tasks_waiting"]) == (True, "over budget", 2)
    assert "all LOW goes on: 2 tasks waited" in lowtide("resume", "--all").out
    played.stack.settle()
    assert {record.status for record in played.audited().values()} == {Status.ANSWERED}


def test_a_tenant_is_paused_alone(stage, lowtide):
    played = stage()
    lowtide("pause", "--tenant", "acme")
    lowtide("pause", "--model", "gpt-5-nano")
    played.send(low("a"), low("g", tenant="globex"))
    played.stack.wait(3 * 3_600)
    assert {row.task_id: row.state.value for row in played.rows()} == {"a": "staged", "g": "answered"}
    resumed = json.loads(lowtide("resume", "--tenant", "acme", "--json").out)
    assert resumed == {
        "scope": "tenant acme",
        "tasks_waiting": 1,
        "already": False,
        "still_paused": ["model gpt-5-nano"],
    }
    played.stack.settle()
    assert played.audited()["a"].status is Status.ANSWERED


def test_what_is_not_paused_cannot_be_resumed(stage, lowtide):
    stage()
    lowtide("pause", "--tenant", "acme")
    ended = lowtide("resume", "--tenant", "acne")
    assert (ended.code, ended.out, ended.said) == (1, "", "tenant acne is not paused; paused are: tenant acme")


def test_it_wants_to_know_what(lowtide):
    for options in ([], ["--all", "--tenant", "acme"]):
        for verb in ("pause", "resume"):
            ended = lowtide(verb, *options)
            assert (ended.code, ended.out) == (2, "")
