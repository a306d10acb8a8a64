"""``lowtide cancel``: tasks and batches, whatever has become of them."""

from __future__ import annotations

import json
from pathlib import Path

import boto3

from lowtide.core.records import Status
from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.stack.stack_cases import low, pack, task

ROUTES = Path(__file__).parents[2] / "functions" / "lowtide" / "routes.toml"
LONG = Scenario(batch=BatchWeather(min_s=7200, max_s=7200))


def running(stage):
    played = stage(LONG)
    played.send(pack(*(low(f"l{number}") for number in range(4))))
    played.stack.wait(1800)
    [batch] = played.stack.system().batches.active()
    return played, batch


def test_a_staged_task_has_its_record_at_once(stage, lowtide):
    played = stage()
    played.send(low("l"))
    played.stack.wait(300)
    ended = lowtide("cancel", "l", "--tenant", "acme", "--json")
    [told] = json.loads(ended.out)["cancelled"]
    assert (ended.code, told["kind"], told["outcome"]) == (0, "task", "cancelled")
    played.stack.settle()
    assert played.audited()["l"].status is Status.CANCELLED
    assert played.asked("POST /v1/batches") == 0


def test_a_task_that_nobody_has_brought_yet_is_cancelled_when_it_comes(stage, lowtide):
    played = stage()
    ended = lowtide("cancel", "early", "--tenant", "acme")
    assert ended.code == 0
    assert "not known yet" in ended.out
    assert played.play(task("early"))["early"].status is Status.CANCELLED
    assert played.asked("POST /v1/chat/completions") == 0


def test_a_task_that_has_ended_stays_as_it_ended_and_the_exit_code_says_so(stage, lowtide):
    played = stage()
    played.play(task("done"))
    ended = lowtide("cancel", "done", "later", "--tenant", "acme")
    assert ended.code == 1
    assert "task later: not known yet" in ended.out
    assert ended.said == "1 of 2 had ended before: done"
    assert played.records()["done"].status is Status.ANSWERED


def test_a_batch_is_cancelled_and_its_tasks_are_answered_by_a_later_one(stage, lowtide):
    played, batch = running(stage)
    ended = lowtide("cancel", batch.batch_id)
    assert ended.code == 0
    assert "the rest goes into a later batch" in ended.out
    played.stack.settle()
    records = played.audited()
    assert {record.status for record in records.values()} == {Status.ANSWERED}
    assert played.asked("POST /v1/batches") == 2


def test_a_batch_is_cancelled_with_its_tasks_by_the_providers_id(stage, lowtide):
    played, batch = running(stage)
    ended = lowtide("cancel", batch.provider_batch.id, "--unanswered", "cancel", "--json")
    [told] = json.loads(ended.out)["cancelled"]
    assert (told["kind"], told["outcome"]) == ("batch", "cancelling")
    assert json.loads(lowtide("status", batch.batch_id, "--json").out)["cancelled_with"] == "cancel"
    played.stack.settle()
    assert {record.status for record in played.audited().values()} == {Status.CANCELLED}


def test_a_batch_that_has_ended_is_refused(stage, lowtide):
    played, batch = running(stage)
    played.stack.settle()
    ended = lowtide("cancel", batch.batch_id)
    assert ended.code == 1
    assert batch.batch_id in ended.said


def test_a_misspelt_batch_is_no_task(stage, lowtide):
    """An unknown task's id leaves a tombstone; a name in the form of a batch's must not."""
    played = stage()
    for name in ("b-000000000000000000000000", "batch_unheard_of"):
        ended = lowtide("cancel", name)
        assert (ended.code, ended.out) == (1, "")
        assert f"there is no batch {name}" in ended.said
    assert played.rows() == []


def test_the_routes_of_the_deployment_hold_and_a_reply_that_cannot_be_sent_is_told(stage, lowtide):
    gone = "https://sqs.eu-central-1.amazonaws.com/123456789012/gone"
    arn = "arn:aws:sqs:eu-central-1:123456789012:gone"
    played = stage(parameters={"RoutesParameter": "/lowtide/routes", "ReplyQueueArns": arn})
    routes = ROUTES.read_text(encoding="utf-8").replace("reply_to = []", f'reply_to = ["{gone}"]')
    boto3.client("ssm").put_parameter(Name="/lowtide/routes", Value=routes, Type="String", Tier="Advanced")
    played.send(low("l", reply_to=gone))
    played.stack.wait(300)
    ended = lowtide("cancel", "l", "--tenant", "acme")
    assert ended.code == 1
    assert "task l: cancelled" in ended.out
    assert "1 replies could not be sent" in ended.said
