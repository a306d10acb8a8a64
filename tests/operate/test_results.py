"""Records are read back: those that settled since a moment, those of given tasks, those with a tag; once each."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from lowtide.adapters.aws.settled_index import SettledIndex
from lowtide.core.model import utc_text
from lowtide_local.operate import records
from tests.operate.conftest import DIES, counted, names, printed
from tests.stack.stack_cases import low, pack, stages, task

ODD = "ünï 中文 \u2028 \u2029 😀"


@pytest.fixture(scope="module")
def settled(read_once):
    """A day that has ended: two real-time tasks, a batch of forty, one dead of each kind, one that was cancelled."""
    with stages() as make:
        played = make()
        played.send(task("draft", tags={"team": "growth"}), task("voice", "voice_agent_reply", tenant="globex"))
        played.send(task("gone", text=DIES))
        played.stack.settle()
        played.send(pack(*(low(f"l{number}", tags={"team": "growth"} if number < 3 else {}) for number in range(40))))
        played.send(low("lost", text=DIES), task("odd", text=ODD, tags={"team": ODD}))
        played.stack.settle()
        yield played


def test_all_that_is_remembered_is_printed_as_results_jsonl_has_it(settled, lowtide):
    expected = settled.records()
    found = {each["task_id"]: each for each in printed(lowtide("results"))}
    assert found == {name: json.loads(record.model_dump_json()) for name, record in expected.items()}
    assert (found["gone"]["status"], found["lost"]["status"]) == ("dead", "dead")
    assert found["odd"]["tags"] == {"team": ODD}


def test_what_settled_first_comes_first(settled, lowtide):
    lines = [each["task_id"] for each in printed(lowtide("results"))]
    assert set(lines[:3]) == {"draft", "voice", "gone"}


def test_since_takes_an_age_or_a_time_with_any_offset(settled, lowtide):
    first = settled.row("draft").settled_at
    after = first + timedelta(milliseconds=1)
    later = len(settled.rows()) - sum(row.settled_at <= first for row in settled.rows())
    assert len(printed(lowtide("results", "--since", utc_text(after)))) == later
    assert len(printed(lowtide("results", "--since", "2026-11-02T12:00:00+02:00"))) == 45
    assert len(printed(lowtide("results", "--since", "2026-11-02t05:00:00z"))) == 45
    assert len(printed(lowtide("results", "--since", "7d"))) == 45
    assert printed(lowtide("results", "--since", "2027-01-01T00:00:00Z")) == []


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-11-02", "2026-11-02T10:00:00", "2 h", "", "0001-01-01T00:00:00+14:00"]
)
def test_a_moment_that_says_no_instant_is_wrong_usage(settled, lowtide, text):
    ended = lowtide("results", "--since", text)
    assert (ended.code, ended.out) == (2, "")
    assert "with its offset" in ended.said


def test_an_index_that_lags_behind_a_row_brings_its_record_once(settled, lowtide, monkeypatch):
    """As after a redrive: the old entry is still there, and the new one is there already."""
    usual = SettledIndex.since

    def since(index, moment):
        entries = list(usual(index, moment))
        stale = [entry._replace(at=entry.at - timedelta(minutes=1)) for entry in entries if "draft" in entry.key]
        return iter([*stale, *entries])

    monkeypatch.setattr(SettledIndex, "since", since)
    found = [each["task_id"] for each in printed(lowtide("results"))]
    assert len(found) == len(set(found)) == 45


def test_before_anything_was_printed_a_failure_says_nothing_of_going_on(settled, lowtide):
    ended = lowtide("results", "--stack", "unheard-of")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)


def test_tags_and_tenant_narrow_it(settled, lowtide):
    assert names(lowtide("results", "--tags", "team=growth")) == ["draft", "l0", "l1", "l2"]
    assert names(lowtide("results", "--tags", "team=growth", "--tags", "team=sales")) == []
    assert names(lowtide("results", "--tenant", "globex")) == ["voice"]
    for text in ("team", "=growth"):
        assert lowtide("results", "--tags", text).code == 2


def test_ids_come_from_a_file_or_from_standard_input(settled, lowtide, tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("l7\n\nlost\ndraft\nnobody\nl7\n")
    ended = lowtide("results", "--ids", file, "--tenant", "acme")
    assert names(ended) == ["draft", "l7", "lost"]
    assert ended.err == "tasks without a record yet: 1 (lowtide status TASK says where one is)\n"
    assert names(lowtide("results", "--ids", "-", "--tenant", "globex", stdin=b"voice\r\n")) == ["voice"]


def test_the_file_that_was_submitted_names_its_tasks_whatever_has_become_of_their_deadlines(settled, lowtide, tmp_path):
    past = task("draft", deadline_at="2026-11-02T10:00:30Z")
    file = tmp_path / "tasks.jsonl"
    given = [past, task("voice", tenant="globex"), task("bad", tags=1), low("l1")]
    file.write_text("".join(f"{json.dumps(each)}\n" for each in given) + "{")
    ended = lowtide("results", "--ids", file)
    assert names(ended) == ["draft", "l1", "voice"]
    assert ended.err == "2 lines are no tasks of this deployment, so they have no record\n"
    assert names(lowtide("results", "--ids", file, "--tenant", "acme")) == ["draft", "l1"]


def test_what_names_no_tasks_is_wrong_usage(settled, lowtide, tmp_path):
    for content, said in ((b"a b\n", "line 1"), (b"ok\n\xff\n", "line 2"), (b"\n", "is empty"), (b"x" * 129, "line 1")):
        ended = lowtide("results", "--ids", "-", stdin=content)
        assert (ended.code, ended.out) == (2, "")
        assert said in ended.said
    assert lowtide("results", "--ids", tmp_path / "none").code == 2
    assert lowtide("results", "--follow", "--json").code == 2


def test_as_json_it_is_one_document(settled, lowtide):
    ended = lowtide("results", "--json")
    document = json.loads(ended.out)
    assert ended.err == ""
    assert len(document.pop("results")) == 45
    position = utc_text(settled.stack.system().clock.now() - timedelta(minutes=20))
    assert document == {
        "next_since": position,
        "removed": 0,
        "of_a_newer_release": 0,
        "unreadable": [],
        "complete": True,
    }
    empty = json.loads(lowtide("results", "--tenant", "nobody", "--json").out)
    assert (empty["results"], empty["complete"]) == ([], True)


def test_a_shard_is_read_once_for_all_its_records_however_they_are_asked_for(settled, lowtide, monkeypatch, tmp_path):
    calls = counted(monkeypatch)
    monkeypatch.setattr(records, "AT_ONCE", 7)
    assert len(printed(lowtide("results"))) == 45
    shards = {row.pointer.key for row in settled.rows() if row.pointer is not None}
    assert calls.count("GetObject") <= len(shards) + 1
    calls.clear()
    file = tmp_path / "ids"
    file.write_text("".join(f"l{number}\n" for number in range(39, -1, -1)))
    assert len(printed(lowtide("results", "--ids", file, "--tenant", "acme"))) == 40
    assert calls.count("GetObject") <= len(shards)
    assert "Scan" not in calls


def test_small_pages_lose_and_repeat_nothing(settled, lowtide, monkeypatch):
    usual = BaseClient._make_api_call

    def call(client, operation, arguments):
        small = {"Limit": 2} if operation == "Query" else {}
        return usual(client, operation, arguments | small)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    monkeypatch.setattr(records, "AT_ONCE", 3)
    found = [each["task_id"] for each in printed(lowtide("results"))]
    assert len(found) == len(set(found)) == 45


def test_a_failure_in_the_middle_says_where_to_go_on_and_leaves_whole_lines(settled, lowtide, monkeypatch):
    monkeypatch.setattr(records, "AT_ONCE", 5)
    usual, reads = BaseClient._make_api_call, []

    def call(client, operation, arguments):
        if operation == "BatchGetItem":
            reads.append(operation)
            if len(reads) == 3:
                raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, operation)
        return usual(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    ended = lowtide("results")
    assert ended.code == 1
    first = [json.loads(line)["task_id"] for line in ended.out.split("\n") if line]
    assert len(first) == 10
    [position] = [line for line in ended.err.splitlines() if line.startswith("to go on: ")]
    reads.extend(["BatchGetItem"] * 5)
    rest = names(lowtide("results", *position.removeprefix("to go on: ").split()))
    assert {*first, *rest} == set(settled.records())
