"""Results that go on: by the position that a call ends with, and by --follow."""

from __future__ import annotations

import json

import boto3

from lowtide_local.cli import results
from lowtide_local.operate import records
from tests.operate.conftest import DIES, names, printed
from tests.stack.stack_cases import OPEN, low, pack, task


def test_the_position_of_a_call_is_where_the_next_one_goes_on(stage, lowtide):
    played = stage()
    played.play(task("first"))
    position = lowtide("results").err.strip().removeprefix("for the next time: --since ")
    played.play(task("second"))
    again = lowtide("results", "--since", position)
    assert names(again) == ["first", "second"], "the last twenty minutes come again"
    played.stack.wait(1_300)
    position = lowtide("results", "--since", position).err.strip().removeprefix("for the next time: --since ")
    assert names(lowtide("results", "--since", position)) == [], "and after that they do not"
    played.play(task("third"))
    assert names(lowtide("results", "--since", position)) == ["third"]


def between_looks(monkeypatch, *steps):
    """Do these between the looks of --follow, and interrupt it after the last."""
    left = list(steps)

    def sleep(_seconds):
        if not left:
            raise KeyboardInterrupt
        with OPEN[-1].stack.roles.acting(None):
            left.pop(0)()

    monkeypatch.setattr(results.time, "sleep", sleep)


def test_following_prints_what_settles_between_two_looks_exactly_once(stage, lowtide, monkeypatch):
    played = stage()
    played.play(task("before"))
    nothing = lambda: played.stack.wait(60)  # noqa: E731
    between_looks(
        monkeypatch,
        nothing,
        lambda: played.play(task("call")),
        nothing,
        lambda: played.play(pack(low("b1"), low("b2"), low("dies", text=DIES))),
        nothing,
        lambda: played.stack.wait(3_600),
        lambda: played.play(task("last")),
        nothing,
    )
    ended = lowtide("results", "--follow")
    assert ended.code == 1
    assert [json.loads(line)["task_id"] for line in ended.out.splitlines()][:2] == ["before", "call"]
    assert sorted(json.loads(line)["task_id"] for line in ended.out.split("\n") if line) == sorted(
        ["before", "call", "b1", "b2", "dies", "last"]
    )
    assert ended.err.startswith("to go on: --since 2026-")
    assert ended.said == "interrupted"


def test_a_record_that_becomes_visible_late_is_not_lost(stage, lowtide, monkeypatch):
    """Its writer began before the last look, and its index entry came after it."""
    played = stage()
    played.play(task("early"), task("late"))
    dynamodb = boto3.client("dynamodb")
    [table] = dynamodb.list_tables()["TableNames"]
    key = {"pk": {"S": "task#late acme"}, "sk": {"S": "row"}}
    hidden = dynamodb.get_item(TableName=table, Key=key)["Item"]
    dynamodb.delete_item(TableName=table, Key=key)

    def another():
        played.send(task("next"))
        played.stack.settle()

    def appears():
        played.stack.wait(300)
        dynamodb.put_item(TableName=table, Item=hidden)

    between_looks(monkeypatch, another, appears, lambda: None)
    ended = lowtide("results", "--follow")
    assert [json.loads(line)["task_id"] for line in ended.out.splitlines()] == ["early", "next", "late"]


def test_following_ids_ends_when_each_has_its_record(stage, lowtide, monkeypatch, tmp_path):
    played = stage()
    played.play(task("a"))
    file = tmp_path / "tasks.jsonl"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in (task("a"), low("b"), task("c"))))
    between_looks(monkeypatch, lambda: played.play(task("other"), low("b")), lambda: played.play(task("c")))
    ended = lowtide("results", "--ids", file, "--follow")
    assert [each["task_id"] for each in printed(ended)] == ["a", "b", "c"]
    assert ended.err == ""


def test_following_ids_finds_what_a_release_from_before_the_index_settles(stage, lowtide, monkeypatch, tmp_path):
    """GIVEN a task whose row has no entry in the index WHEN the rows are read again THEN its record comes."""
    monkeypatch.setattr(records, "LOOKS_BY_INDEX", 3)
    played = stage()
    file = tmp_path / "tasks.jsonl"
    file.write_text(f"{json.dumps(task('old'))}\n")
    dynamodb = boto3.client("dynamodb")

    def settles_without_an_entry():
        played.play(task("old"))
        [table] = dynamodb.list_tables()["TableNames"]
        key = {"pk": {"S": "task#old acme"}, "sk": {"S": "row"}}
        row = dynamodb.get_item(TableName=table, Key=key)["Item"]
        dynamodb.put_item(
            TableName=table, Item={name: value for name, value in row.items() if not name.startswith("settled_")}
        )

    between_looks(monkeypatch, settles_without_an_entry, lambda: None, lambda: None)
    assert names(lowtide("results", "--ids", file, "--follow")) == ["old"]


def test_a_record_that_cannot_be_read_is_named_and_stops_none_of_its_neighbours(stage, lowtide):
    played = stage()
    played.play(task("call"), pack(low("l0"), low("l1")))
    objects = played.stack.system().objects
    [shard] = [key for key in objects.keys("results/") if b'"l0"' in objects.get(key)]
    objects.put(shard, b"#" * len(objects.get(shard)))
    ended = lowtide("results")
    assert ended.code == 0
    assert names(ended) == ["call"]
    assert f"records that cannot be read: 2; the first is in object {shard} at 0" in ended.err
    assert json.loads(lowtide("results", "--json").out)["unreadable"][0] == f"{shard} at 0"


def test_a_task_that_was_redriven_has_its_next_record_too(stage, lowtide):
    played = stage()
    played.play(task("again", text="[sim:500]"))
    assert [each["status"] for each in printed(lowtide("results"))] == ["dead"]

    assert lowtide("dead", "redrive", "--all", "--yes").code == 0
    assert printed(lowtide("results")) == [], "the record is about to be replaced"
    played.stack.settle()
    assert len(printed(lowtide("results"))) == 1


def test_what_retention_has_removed_is_counted_and_stops_nothing(stage, lowtide, tmp_path):
    played = stage()
    played.play(task("call"), pack(*(low(f"l{number}") for number in range(5))))
    objects = played.stack.system().objects
    objects.delete([*objects.keys("results/")])
    ended = lowtide("results")
    assert names(ended) == ["call"]
    assert "records that have been removed (ResultRetentionDays): 5" in ended.err
    assert json.loads(lowtide("results", "--json").out)["removed"] == 5


def test_a_row_of_a_newer_release_stops_none_of_its_neighbours(stage, lowtide):
    played = stage()
    played.play(task("ours"), task("theirs"))
    dynamodb = boto3.client("dynamodb")
    [table] = dynamodb.list_tables()["TableNames"]
    dynamodb.update_item(
        TableName=table,
        Key={"pk": {"S": "task#theirs acme"}, "sk": {"S": "row"}},
        UpdateExpression="SET v = :v",
        ExpressionAttributeValues={":v": {"N": "2"}},
    )
    ended = lowtide("results")
    assert names(ended) == ["ours"]
    assert "a newer release wrote (ask with that one): 1" in ended.err


def test_what_is_too_large_for_its_row_comes_from_its_object(stage, lowtide):
    """A dead letter holds the task; the record itself says nothing of the prompt."""
    played = stage()
    played.play(task("long", text=DIES + "x" * 200_000), task("short"))
    assert played.row("long").pointer is not None
    ended = lowtide("results")
    assert names(ended) == ["long", "short"]
    assert "xxx" not in ended.out
