"""``status TASK``: what it waits for, what happened to it and when, and where its answer lies."""

from __future__ import annotations

import json

import boto3
import pytest

from lowtide_local.simulator.scenario import BatchWeather, Scenario
from tests.operate.conftest import DIES
from tests.stack.stack_cases import low, pack, task

LONG = Scenario(batch=BatchWeather(min_s=7200, max_s=7200))


def shown(lowtide, name, tenant="acme"):
    ended = lowtide("status", name, "--tenant", tenant, "--json")
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


def happened(document):
    return [each["what"] for each in document["timeline"]]


def test_an_answered_call_has_its_timeline_and_its_answer_on_its_row(stage, lowtide):
    played = stage()
    played.play(task("call"))
    document = shown(lowtide, "call")
    assert happened(document) == ["accepted", "claimed for a call", "answered"]
    assert document["timeline"][0]["at"] == "2026-11-02T10:00:00.000Z"
    assert document["waits_for"] is None
    [table] = boto3.client("dynamodb").list_tables()["TableNames"]
    assert document["answer"] == {"in": "row", "table": table, "key": "task#call acme"}
    said = lowtide("status", "call", "--tenant", "acme").out
    assert f"on its row in table {table}" in said
    assert "claimed for a call" in said
    assert "hello" not in said, "no prompt"


def test_an_answer_of_a_batch_is_found_where_the_status_says(stage, lowtide):
    played = stage()
    played.play(pack(low("a"), low("b"), low("c")))
    document = shown(lowtide, "b")
    first, claimed, batched, submitted, *rest = happened(document)
    assert (first, claimed) == ("accepted", "claimed for a batch")
    assert batched == f"in batch {document['batch_id']}"
    assert submitted == f"batch submitted as {document['provider_batch_id']}"
    assert rest == ["batch ended: completed", "batch collected", "answered"]
    answer = document["answer"]
    found = boto3.client("s3").get_object(
        Bucket=answer["bucket"],
        Key=answer["key"],
        Range=f"bytes={answer['offset']}-{answer['offset'] + answer['length'] - 1}",
    )
    assert json.loads(found["Body"].read())["record"]["task_id"] == "b"
    assert f"s3://{answer['bucket']}/{answer['key']}, bytes" in lowtide("status", "b", "--tenant", "acme").out


def test_a_task_in_a_batch_says_for_what_it_waits_at_each_step(stage, lowtide):
    played = stage(LONG)
    played.send(low("l"))
    said = []
    for seconds in (300, 1_500, 9_000):
        played.stack.wait(seconds)
        said.append(shown(lowtide, "l")["waits_for"])
    assert said == ["a batch; its part is ready", "the provider to end its batch", None]


def test_paused_work_says_so(stage, lowtide):
    played = stage()
    assert lowtide("pause", "--all").code == 0
    played.send(low("l"))
    played.stack.wait(600)
    assert shown(lowtide, "l")["waits_for"] == "a batch; its part is held"


def test_a_dead_task_says_how_often_it_was_tried_and_when_it_failed(stage, lowtide):
    played = stage()
    played.play(task("tried", text="[sim:500]"), low("refused", text=DIES))
    document = shown(lowtide, "tried")
    assert (document["state"], document["attempts"]) == ("dead", 3)
    assert happened(document)[0] == "accepted"
    assert "failed for the first time" in happened(document)
    assert happened(document)[-1] == "dead"
    assert document["answer"]["in"] == "row"
    assert happened(shown(lowtide, "refused"))[-1] == "dead"


def test_a_task_that_waits_for_its_next_try_says_until_when(stage, lowtide):
    played = stage()
    played.send(task("t", text="[sim:500-twice]"))
    while lowtide("status", "t", "--tenant", "acme").code or shown(lowtide, "t")["state"] != "queued":
        played.stack.wait(1)
    document = shown(lowtide, "t")
    assert (document["state"], document["answer"]) == ("queued", None)
    assert document["waits_for"] == f"its next try, not before {document['not_before']}"


def test_a_redriven_task_and_a_cancelled_one_say_what_is_to_come(stage, lowtide):
    played = stage()
    played.play(task("again", text=DIES))
    lowtide("dead", "redrive", "--all", "--yes")
    document = shown(lowtide, "again")
    assert document["waits_for"].startswith("a worker, after its redrive")
    assert document["answer"] is None, "its record is about to be replaced"
    assert "died" in happened(document)
    lowtide("cancel", "unheard", "--tenant", "acme")
    document = shown(lowtide, "unheard")
    assert (document["state"], document["timeline"]) == ("tombstone", [])
    assert document["waits_for"] == "a task with this id, which is cancelled when it comes"


@pytest.mark.parametrize("options", [(), ("--json",), ("--watch",)])
def test_a_task_that_is_not_known_is_a_failure_in_one_line_that_says_why_that_may_be(stage, lowtide, options):
    played = stage(by_hand={"Ingest", "Reporter"})
    played.send(task("waiting"))
    ended = lowtide("status", "waiting", *options)
    assert (ended.code, ended.out) == (1, "")
    assert ended.said == (
        "task waiting of tenant default is not known: it waits in a queue for its first worker, or was never sent, "
        "or is another tenant's (--tenant)"
    )
