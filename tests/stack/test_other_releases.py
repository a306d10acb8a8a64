"""A stack that is upgraded, or taken back by one release, with work in flight: nothing is lost, paid twice or buried.

What another release would write is written here by this one, with its stamp, or with fields that this one lacks.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import boto3
import orjson
import pytest
from stack_cases import low, pack, task

from lowtide.adapters.aws import rows
from lowtide.adapters.aws.table import Table
from lowtide.core import packs, versions
from lowtide.core.holds import Lift, Place, Scope
from lowtide.core.task_rows import TaskState
from lowtide.ports import Change
from lowtide.steps import carry, part_file
from lowtide_local.simulator.scenario import BatchWeather, Scenario

HOUR_S = 3_600
LATER = {"later": {"a": [1, None]}, "later_still": "x"}


@contextmanager
def newer_rows(*kinds: rows.Kind[Any, Any, Any]):
    """While it lasts, the functions are of a release that has changed the rows of these kinds alone."""
    try:
        for kind in kinds:
            object.__setattr__(kind, "schema", 2)
        yield
    finally:
        for kind in kinds:
            object.__setattr__(kind, "schema", 1)


@contextmanager
def a_release(schema: int | None = None, fields: dict[str, Any] | None = None):
    """While it lasts, the functions are of another release. ``schema`` is the version of its messages and of its rows
    of tasks, parts and batches (None: it writes none), and it has ``fields`` of its own in all that it writes."""
    kinds = (rows.TASKS, rows.PARTS, rows.BATCHES)
    with pytest.MonkeyPatch.context() as patched:
        item, body, add, dumps = rows.DynamoRows._item, packs._body, part_file.PartFile.add, orjson.dumps

        def stamped(content: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in content.items() if name != "v" or schema is not None}

        def item_of(self, *given):
            made = stamped(item(self, *given))
            if fields:
                made["body"] = {"S": dumps(widened(orjson.loads(made["body"]["S"]), fields)).decode()}
            return made

        def body_of(lines):
            return dumps(widened(stamped(orjson.loads(body(lines))), fields or {})).decode()

        def added(self, line, weight):
            add(self, type(line).model_validate(widened(line.model_dump(mode="json"), fields or {})), weight)

        patched.setattr(rows.DynamoRows, "_item", item_of)
        patched.setattr(packs, "_body", body_of)
        patched.setattr(part_file.PartFile, "add", added)
        for module in (versions, packs, carry):
            patched.setattr(module, "MESSAGES", schema or 1)
        try:
            for kind in kinds:
                object.__setattr__(kind, "schema", schema or 1)
            yield
        finally:
            for kind in kinds:
                object.__setattr__(kind, "schema", 1)


def widened(content: Any, fields: dict[str, Any]) -> Any:
    """With the fields beside those of every value in it, but for what came from outside and for maps."""
    match content:
        case dict() if content and not content.keys() & {"messages", "url", "acme"}:
            kept = {"message", "tags", "shares", "candidates", "usage", "body"}
            return {n: v if n in kept else widened(v, fields) for n, v in content.items()} | fields
        case list():
            return [widened(each, fields) for each in content]
        case _:
            return content


def work():
    return [task("high"), task("voice", "voice_agent_reply"), pack(*(low(f"low-{number}") for number in range(5)))]


def begun(played) -> None:
    """The batch of the LOW tasks is at the provider, and no invocation is under way."""
    for _ in range(60):
        played.stack.wait(60)
        if any(row.state.value == "running" for row in played.stack.view().batches.scan()):
            played.stack.wait(30)
            return
    raise AssertionError("no batch was submitted")


def consumed(played, event) -> bool:
    """Invoke the consumer. Messages that it reports no failure for are deleted, as an event source does."""
    whole = played.stack.invoke("ConsumerHigh", event) == {"batchItemFailures": []}
    if whole:
        played.stack.queues["HighQueue"].delete([record["receiptHandle"] for record in event["Records"]])
    return whole


def items(played) -> dict[str, dict[str, Any]]:
    found = boto3.client("dynamodb").scan(TableName=played.stack.physical["Table"])["Items"]
    return {item["pk"]["S"]: item for item in found if item["sk"]["S"] == "row"}


def files_of(played) -> set[str]:
    return {each["id"] for each in played.line.provider.state()["files"]}


def answered(records) -> bool:
    return {record.status for record in records.values()} == {"answered"}


def test_every_row_and_every_message_carries_the_schema_version(stage):
    played = stage(by_hand={"ConsumerHigh"})
    played.send(*work())
    begun(played)
    assert {item["v"]["N"] for item in items(played).values()} == {"1"}
    [(body, _)] = played.stack.queues["HighQueue"].contents()
    assert orjson.loads(body)["v"] == 1


@pytest.mark.parametrize("release", [{"schema": None}, {"schema": 1, "fields": LATER}], ids=["older", "later"])
def test_what_another_release_of_this_version_began_is_brought_to_its_end(stage, release):
    played = stage(by_hand={"ConsumerHigh"})
    with a_release(**release):
        played.send(*work())
        begun(played)
        event = played.received("HighQueue")
    before = items(played)
    assert {item.get("v", {"N": None})["N"] for item in before.values()} == {None if release["schema"] is None else "1"}
    assert consumed(played, event)
    played.stack.settle()
    records = played.records()
    assert len(records) == 7
    assert answered(records)
    assert played.stack.letters() == []
    assert played.stack.failures == []
    if fields := release.get("fields"):
        for name in ("task#low-1 acme", *(name for name in before if name.startswith("batch#"))):
            assert orjson.loads(items(played)[name]["body"]["S"]).items() >= fields.items(), name


def test_what_a_newer_version_began_waits_for_it_while_new_work_goes_on(stage):
    two_hours = BatchWeather(min_s=7_200, max_s=7_200)
    played = stage(Scenario(batch=two_hours), by_hand={"ConsumerHigh"})
    with a_release(schema=2):
        played.send(*work())
        begun(played)
        event = played.received("HighQueue")
    before = items(played)
    files = files_of(played)
    assert files

    # Taken back by one release, for hours: sweeps, rescues and looks come and go.
    [failed] = played.stack.invoke("ConsumerHigh", event)["batchItemFailures"]
    assert failed["itemIdentifier"] == event["Records"][0]["messageId"]
    played.send(task("new", "meeting_summary"), low("new-low"))
    played.stack.wait(3 * HOUR_S)
    after = items(played)
    began = [name for name, item in before.items() if name.startswith(("task#", "part#", "batch#"))]
    assert {name: (before[name], after[name]) for name in began if after[name] != before[name]} == {}
    assert played.row("new-low").state is TaskState.ANSWERED
    assert played.row("new").state is TaskState.ANSWERED
    assert played.stack.letters() == []
    assert played.stack.queues["StrandedQueue"].depth == 0
    assert files <= files_of(played), "no sweep took them for nobody's"
    assert "newer_rows" in played.metrics.events()
    assert "orphan_batch" not in played.metrics.events()

    with a_release(schema=2):
        assert consumed(played, played.received("HighQueue"))
        played.stack.settle()
        records = played.records()
    assert len(records) == 9
    assert answered(records)
    assert played.stack.letters() == []


def test_a_newer_row_holds_up_no_neighbour_in_its_message(stage):
    played = stage()
    with a_release(schema=2):
        played.play(task("theirs"))
    played.send(pack(task("theirs"), task("ours")))
    played.stack.wait(600)
    assert played.records().keys() == {"theirs", "ours"}
    assert played.asked("POST /v1/chat/completions") == 2
    assert played.stack.queues["HighQueue"].depth == 1
    assert played.stack.letters() == []
    with a_release(schema=2):
        played.stack.settle()
    assert played.asked("POST /v1/chat/completions") == 2


def test_a_newer_message_that_was_stranded_stays_until_the_release_that_reads_it(stage):
    played = stage(by_hand={"ConsumerHigh"})
    with a_release(schema=2):
        played.send(task("high"))
        played.stack.wait(6)
        [record] = played.received("HighQueue")["Records"]
    boto3.client("sqs").send_message(QueueUrl=played.stack.physical["StrandedQueue"], MessageBody=record["body"])
    played.stack.wait(3 * HOUR_S)
    assert played.stack.queues["StrandedQueue"].depth == 1
    assert played.stack.letters() == []


def test_newer_tasks_in_a_part_hold_up_no_neighbour_in_its_batch(stage):
    played = stage(Scenario(batch=BatchWeather(min_s=600, max_s=600)))
    with newer_rows(rows.TASKS):
        played.send(pack(low("theirs-0"), low("theirs-1")))
        for _ in range(40):
            played.stack.wait(15)
            if any(name.startswith("part#") for name in items(played)):
                break
    played.send(pack(low("ours-0"), low("ours-1")))
    played.stack.wait(3 * HOUR_S)
    assert {played.row(f"ours-{number}").state for number in range(2)} == {TaskState.ANSWERED}
    assert {item["v"]["N"] for name, item in items(played).items() if name.startswith("task#theirs")} == {"2"}
    assert played.stack.failures == []
    assert "newer_rows" in played.metrics.events()

    with newer_rows(rows.TASKS):
        played.stack.settle()
        records = played.records()
    assert sorted(records) == ["ours-0", "ours-1", "theirs-0", "theirs-1"]
    assert answered(records)
    assert played.stack.letters() == []


def test_newer_tasks_among_a_batchs_lines_hold_up_no_neighbour_in_its_collection(stage):
    played = stage(Scenario(batch=BatchWeather(min_s=600, max_s=600)))
    played.send(pack(low("theirs"), low("ours")))
    begun(played)
    tasks = rows.DynamoRows(Table(boto3.client("dynamodb"), played.stack.physical["Table"]), rows.TASKS)
    with newer_rows(rows.TASKS):
        [row] = tasks.get(["theirs acme"])
        tasks._put(tasks._key(row.key), row.model_copy(update={"rev": row.rev + 1}), row.rev, row.accepted_at)
    played.stack.wait(HOUR_S)
    assert played.records().keys() == {"ours"}
    assert played.row("ours").state is TaskState.ANSWERED
    with newer_rows(rows.TASKS):
        played.stack.settle()
        assert answered(played.records())
    assert played.stack.letters() == []


def test_under_a_newer_hold_what_is_begun_is_collected_and_nothing_is_bought(stage):
    played = stage(Scenario(batch=BatchWeather(min_s=600, max_s=600)))
    played.send(low("begun"))
    begun(played)
    holds = rows.DynamoRows(Table(boto3.client("dynamodb"), played.stack.physical["Table"]), rows.HOLDS)
    scope = Scope(tenant="another")
    with newer_rows(rows.HOLDS):
        holds.apply([Change(scope.text, Place(scope, "over budget"))], played.row("begun").accepted_at)
    played.send(low("waits"))
    played.stack.wait(HOUR_S)
    assert played.row("begun").state is TaskState.ANSWERED
    assert played.row("waits").state is TaskState.STAGED
    assert played.stack.failures == []
    holds.apply([Change(scope.text, Lift())], played.row("begun").accepted_at)
    played.stack.settle()
    assert answered(played.records())


def test_a_newer_batch_stops_no_sweep_of_its_provider(stage):
    played = stage(Scenario(batch=BatchWeather(min_s=7_200, max_s=7_200)))
    with newer_rows(rows.BATCHES):
        played.send(low("theirs"))
        begun(played)
    files = files_of(played)
    played.stack.wait(2 * HOUR_S)
    assert files <= files_of(played)
    assert not {"sweep_failed", "orphan_batch", "orphan_file"} & set(played.metrics.events())
    assert played.stack.failures == []
