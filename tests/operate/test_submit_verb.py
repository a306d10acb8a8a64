"""A file of tasks is sent to a deployment: each line checked first, the bad ones left out, the rest in packs."""

from __future__ import annotations

import json

import pytest
from botocore.client import BaseClient

from lowtide.core.errors import Busy
from lowtide_local.operate import submitting
from tests.stack.stack_cases import low, pack, task


def written(path, *tasks):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in tasks), "utf-8")
    return path


@pytest.fixture
def tasks(tmp_path):
    return lambda *given: written(tmp_path / "tasks.jsonl", *given)


def batch_line(custom_id):
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_every_line_of_a_file_becomes_a_task_and_gets_its_record(stage, lowtide, tasks):
    played = stage()
    ended = lowtide("submit", tasks(task("draft"), low("bulk"), "", batch_line("bare")))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "3 tasks sent to lowtide-on-moto in 1 message\n"
    played.stack.settle()
    assert {name: record.status for name, record in played.audited().items()} == dict.fromkeys(
        ["draft", "bulk", "bare"], "answered"
    )


def test_a_bad_line_is_refused_by_its_number_and_the_others_are_sent(stage, lowtide, tasks):
    played = stage()
    file = tasks(task("first"), task("odd", tags={"n": 1}), "{", low("last"), {"type": "email_draft", "payload": {}})
    ended = lowtide("submit", file)
    assert ended.code == 3
    assert ended.out == "2 tasks sent to lowtide-on-moto in 1 message\n3 lines refused and not sent\n"
    second, third, fifth = ended.err.splitlines()
    assert second.startswith("line 2 (task odd) refused: tags")
    assert third.startswith("line 3 refused: not JSON")
    assert "task_id" in fifth
    played.stack.settle()
    assert set(played.records()) == {"first", "last"}
    assert played.letters() == {}, "what was not sent is no dead letter"


def test_as_json_it_is_one_document_with_every_refusal(stage, lowtide, tasks):
    stage()
    ended = lowtide("submit", tasks(task("good"), *["{"] * 25), "--json")
    document = json.loads(ended.out)
    assert (ended.code, ended.err) == (3, "")
    assert [each["line"] for each in document.pop("refusals")] == [*range(2, 27)]
    assert document == {"sent": 1, "refused": 25, "messages": 1, "through_line": 26, "complete": True}
    assert json.loads(lowtide("submit", tasks(task("good")), "--json").out)["refusals"] == []


def test_a_file_submitted_twice_is_answered_once(stage, lowtide, tasks):
    played = stage()
    file = tasks(task("draft"), low("bulk"))
    assert (lowtide("submit", file).code, lowtide("submit", file).code) == (0, 0)
    played.stack.settle()
    assert set(played.audited()) == {"draft", "bulk"}
    assert played.stack.system().ledger.total().duplicates == 2


def test_standard_input_is_read_to_its_end(stage, lowtide):
    played = stage()
    lines = "\n".join(json.dumps(task(f"t{number}")) for number in range(3))
    ended = lowtide("submit", "-", stdin=lines.encode())
    assert (ended.code, ended.out) == (0, "3 tasks sent to lowtide-on-moto in 1 message\n")
    played.stack.settle()
    assert len(played.records()) == 3


@pytest.mark.parametrize("text", ["ünï 中文 😀", "line\u2028and\u2029paragraph", "\ufffe and \uffff", 'a "quoted" \\ '])
def test_what_a_line_says_arrives_as_it_was_written(stage, lowtide, tmp_path, text):
    played = stage(by_hand={"Ingest", "Reporter"})
    given = task("t", text=text)
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps(given, ensure_ascii=False) + "\r\n" + json.dumps(task("u")), "utf-8-sig")
    assert lowtide("submit", file).code == 0
    [record] = played.received("IntakeQueue")["Records"]
    assert json.loads(record["body"]) == pack(given, task("u"))


def test_lines_are_packed_within_what_sqs_and_the_intake_take(stage, lowtide, tasks, monkeypatch):
    monkeypatch.setattr(submitting, "PACK_TASKS", 4)
    monkeypatch.setattr(submitting, "PACK_BYTES", 4_000)
    played = stage(by_hand={"Ingest", "Reporter"})
    given = [low(f"t{number}") for number in range(9)] + [low("long", text="x" * 9_000), low("end")]
    assert lowtide("submit", tasks(*given)).code == 0
    bodies = [json.loads(record["body"]) for record in played.received("IntakeQueue")["Records"]]
    sent = [body.get("tasks", [body]) for body in bodies]
    assert sorted(map(len, sent)) == [1, 1, 1, 4, 4]
    assert sorted(each["task_id"] for tasks_ in sent for each in tasks_) == sorted(each["task_id"] for each in given)


def test_a_pack_of_one_tenant_is_in_its_group_and_one_of_several_in_none(stage, lowtide, tasks):
    played = stage(by_hand={"Ingest", "Reporter"})
    groups = []
    for given in ([low("a"), low("b")], [low("c"), low("d", tenant="globex")]):
        lowtide("submit", tasks(*given))
        [record] = played.received("IntakeQueue")["Records"]
        groups.append(record["attributes"].get("MessageGroupId"))
    assert groups == ["acme", "default"]


@pytest.mark.parametrize(("spare", "refused"), [(0, False), (-1, True)])
def test_a_task_may_have_all_that_sqs_takes_and_not_a_byte_more(stage, lowtide, tasks, spare, refused):
    played = stage(by_hand={"Ingest", "Reporter"})
    room = 1_048_576 - len(json.dumps(low("t", text=""))) - spare
    ended = lowtide("submit", tasks(low("t", text="x" * room), low("next")))
    assert ended.code == (3 if refused else 0)
    assert ("SQS takes 1048576" in ended.err) == refused
    assert played.stack.queues["IntakeQueue"].depth == (1 if refused else 2)


def failing_after(monkeypatch, calls, error):
    usual, made = BaseClient._make_api_call, []

    def call(client, operation, arguments):
        if operation == "SendMessageBatch":
            made.append(len(arguments["Entries"]))
            if len(made) > calls:
                raise error
        return usual(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)


@pytest.mark.parametrize(
    ("error", "said"), [(Busy("the queue takes nothing"), "takes nothing"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_submit_that_is_cut_off_says_up_to_which_line_and_the_same_order_finishes_it(
    stage, lowtide, tasks, monkeypatch, error, said
):
    played = stage()
    monkeypatch.setattr(submitting, "PACK_TASKS", 2)
    monkeypatch.setattr(submitting, "ROUND_BYTES", 1)
    file = tasks(task("a"), "", task("b"), "{", task("c"), task("d"), task("e"))
    with monkeypatch.context() as patched:
        failing_after(patched, 1, error)
        ended = lowtide("submit", file)
    assert (ended.code, ended.out) == (1, "")
    assert "everything up to line 4 was sent" in ended.err
    assert ended.err.splitlines()[-1].startswith("lowtide: ")
    assert said in ended.err
    assert lowtide("submit", file).code == 3
    played.stack.settle()
    assert set(played.audited()) == set("abcde")


def test_a_cut_off_submit_leaves_a_whole_document(stage, lowtide, tasks, monkeypatch):
    stage()
    monkeypatch.setattr(submitting, "PACK_TASKS", 1)
    monkeypatch.setattr(submitting, "ROUND_BYTES", 1)
    failing_after(monkeypatch, 1, Busy("full"))
    ended = lowtide("submit", tasks(task("a"), "{", task("b"), task("c")), "--json")
    document = json.loads(ended.out)
    assert (ended.code, document["complete"], document["through_line"], document["sent"]) == (1, False, 2, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"[\n {}\n]", "a JSON array"),
        (b"id,text\n1,a\n2,b\n", "CSV"),
        (b"\x1f\x8b\x08", "gzip"),
    ],
)
@pytest.mark.parametrize("name", ["FILE", "-"])
def test_what_holds_no_tasks_is_wrong_usage_in_one_line(stage, lowtide, tmp_path, content, said, name):
    stage()
    file = tmp_path / "tasks.jsonl"
    file.write_bytes(content)
    for options in ((), ("--json",)):
        ended = lowtide("submit", "-" if name == "-" else file, *options, stdin=content)
        assert (ended.code, ended.out) == (2, "")
        assert said in ended.said


def test_a_file_that_cannot_be_read_is_told_before_aws_is_asked(lowtide, tmp_path, monkeypatch):
    monkeypatch.delenv("LOWTIDE_STACK")
    for path in (tmp_path / "none.jsonl", tmp_path):
        ended = lowtide("submit", path)
        assert (ended.code, ended.out) == (2, "")
        assert str(path) in ended.said


def test_a_thousand_lines_go_in_bounded_memory(stage, lowtide, tmp_path, monkeypatch):
    """No more than a round is held: the longest list that is handed to the queue."""
    stage(by_hand={"Ingest", "Reporter"})
    monkeypatch.setattr(submitting, "PACK_TASKS", 10)
    monkeypatch.setattr(submitting, "ROUND_BYTES", 20_000)
    rounds = []
    usual = submitting.Submission._flush

    def flush(made, through):
        rounds.append(made._bytes)
        usual(made, through)

    monkeypatch.setattr(submitting.Submission, "_flush", flush)
    file = written(tmp_path / "many.jsonl", *(low(f"t{number}") for number in range(1_000)))
    assert lowtide("submit", file).out.startswith("1000 tasks sent")
    assert len(rounds) > 5
    assert max(rounds) < 25_000
