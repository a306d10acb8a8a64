"""What an operator sees: every queue and tier, the work off the queues, one task, one batch."""

from __future__ import annotations

import json
from importlib.resources import files

import boto3
import pytest

from lowtide_local.cli import status
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.stack.stack_cases import low, pack, task

LONG = Scenario(batch=BatchWeather(min_s=7200, max_s=7200))


def with_a_batch(stage):
    """Ten tasks in a batch that runs for two hours, and two that wait in a part."""
    played = stage(LONG)
    played.send(pack(*(low(f"l{number}") for number in range(10))))
    played.stack.wait(1800)
    played.send(low("late-1"), low("late-2"))
    played.stack.wait(600)
    [batch] = played.stack.system().batches.active()
    return played, batch


def test_a_deployment_at_rest_shows_every_queue_and_tier(stage, lowtide):
    stage()
    ended = lowtide("status")
    assert ended.code == 0
    assert ended.err == ""
    rows = {line.split("  ")[0].strip() for line in ended.out.splitlines()}
    assert rows >= {"intake", "CRITICAL", "HIGH", "NORMAL", "LOW", "dead letters", "stranded"}
    assert "no part and no batch is open" in ended.out
    assert "CRITICAL waits" not in ended.out
    assert "\x1b" not in ended.out


def test_as_json_it_is_one_document_and_counts_what_is_where(stage, lowtide):
    played, _ = with_a_batch(stage)
    played.stack.queues["DeadLetterQueue"].send("{}", "default")
    ended = lowtide("status", "--json")
    document = json.loads(ended.out)
    assert document["queues"]["dead letters"] == {"visible": 1, "in_flight": 0, "delayed": 0}
    assert document["parts"] == {"ready": {"parts": 1, "tasks": 2}}
    assert document["batches"] == {"running": {"batches": 1, "tasks": 10}}
    assert ended.err == ""


def test_open_batches_are_listed_with_both_their_ids(stage, lowtide):
    _, batch = with_a_batch(stage)
    [line] = [line for line in lowtide("batches").out.splitlines() if "running" in line]
    assert line.split()[:4] == [batch.batch_id, batch.provider_batch.id, "gpt-5-mini", "running"]
    [listed] = json.loads(lowtide("batches", "--json").out)["batches"]
    assert (listed["batch_id"], listed["requests"], listed["state"]) == (batch.batch_id, 10, "running")


def test_without_open_batches_it_says_so(stage, lowtide):
    stage()
    assert lowtide("batches").out == "no batch is open\n"
    assert json.loads(lowtide("batches", "--json").out) == {"batches": []}


def test_a_batch_is_shown_by_our_id_and_by_the_providers(stage, lowtide):
    _, batch = with_a_batch(stage)
    ours = json.loads(lowtide("status", batch.batch_id, "--json").out)
    theirs = json.loads(lowtide("status", batch.provider_batch.id, "--json").out)
    assert ours == theirs
    assert (ours["state"], ours["requests"], ours["cancelled_with"]) == ("running", 10, None)


def test_a_task_is_shown_with_the_batch_that_it_is_in_and_without_its_prompt(stage, lowtide):
    _, batch = with_a_batch(stage)
    document = json.loads(lowtide("status", "l3", "--tenant", "acme", "--json").out)
    assert (document["state"], document["attempts"], document["batch_id"]) == ("staged", 1, batch.batch_id)
    shown = lowtide("status", "l3", "--tenant", "acme").out
    assert batch.batch_id in shown
    assert "hello" not in shown


@pytest.mark.parametrize("name", ["nobody", "b-000000000000000000000000", "batch_unheard_of"])
def test_what_nobody_knows_is_a_failure_in_one_line(stage, lowtide, name):
    stage()
    ended = lowtide("status", name)
    assert (ended.code, ended.out) == (1, "")
    assert name in ended.said


def test_watching_a_task_ends_when_the_task_has(stage, lowtide, monkeypatch):
    played = stage()
    played.send(low("l"))
    played.stack.wait(300)
    monkeypatch.setattr(status.time, "sleep", lambda _seconds: played.stack.wait(3600))
    states = [
        line.split()[1]
        for line in lowtide("status", "l", "--tenant", "acme", "--watch").out.splitlines()
        if line.startswith("state")
    ]
    assert states == ["staged", "answered"]


def test_watching_as_json_would_be_many_documents(stage, lowtide):
    stage()
    ended = lowtide("status", "--watch", "--json")
    assert (ended.code, ended.out) == (2, "")


def test_a_call_of_today_stands_in_the_status_of_its_task(stage, lowtide):
    played = stage()
    played.play(task("call"))
    document = json.loads(lowtide("status", "call", "--tenant", "acme", "--json").out)
    assert (document["state"], document["lane"], document["batch_id"]) == ("answered", "default", None)


def test_while_critical_waits_it_says_who_makes_room_for_it(stage, lowtide):
    played = stage(by_hand={"ConsumerCritical", "Reporter"}, parameters={"RoutesParameter": "/routes"})
    routes = (files("lowtide") / "routes.toml").read_text("utf-8")
    shared = routes.replace('window = "24h"\n', 'window = "24h"\nbatch_shares_limits = true\n')
    boto3.client("ssm").put_parameter(Name="/routes", Value=shared, Type="String", Tier="Advanced")
    played.send(task("chat", "live_chat_response"))
    played.stack.wait(60)
    room = json.loads(lowtide("status", "--json").out)["yielding"]
    assert (room["critical_waiting"], room["tiers"], room["providers"]) == (1, ["HIGH", "NORMAL"], ["openai"])
    assert 50 <= room["critical_oldest_s"] <= 60
    said = lowtide("status").out
    assert "HIGH, NORMAL begin nothing, no batch is submitted to openai but for a deadline" in said
