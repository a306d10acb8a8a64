"""Files as people and programs write them, and files that are none."""

from __future__ import annotations

import json

import pytest
from commands import batch_line, lowtide, read_lines, receipt, records, result_files, said, task, write_tasks

from lowtide_local.run import reading

SEPARATOR = "\u2028"
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture(scope="module")
def odd(provider, tmp_path_factory):
    """A file that begins with a byte-order mark, ends without a line end, and has everything in between."""
    directory = tmp_path_factory.mktemp("odd")
    lines = [
        b"\xef\xbb\xbf" + json.dumps(task("marked")).encode() + b"\r\n",  # 1
        b"\n",
        b"   \t\r\n",
        json.dumps(task("separated", prompt=f"one{SEPARATOR}two"), ensure_ascii=False).encode() + b"\n",
        json.dumps(task("megabytes", "content_generation", prompt="long " * 400_000)).encode() + b"\n",  # 5
        json.dumps(task("megabytes-now", prompt="long " * 400_000)).encode() + b"\n",
        b'{"task_id": "broken-text", "type": "\xff\xfe"}\n',
        b"\x00\x01\x02\n",
        b"[" * 100_000 + b"\n",
        b"null\n",  # 10
        b'{"task_id": "twice", "task_id": "twice", "type": "email_draft"}\n',
        json.dumps(task("nan")).replace('"hello', "NaN").encode()[:-1] + b', "deadline_seconds": NaN}\n',
        json.dumps(batch_line("last")).encode(),
    ]
    tasks = directory / "tasks.jsonl"
    tasks.write_bytes(b"".join(lines))
    return provider.run(tasks, directory / "out"), directory / "out"


def test_a_byte_order_mark_crlf_blank_lines_and_a_missing_line_end_are_no_errors(odd):
    ended, out = odd
    assert ended.code == 3
    assert set(records(out)) == {"marked", "separated", "megabytes", "megabytes-now", "last"}
    assert {each["status"] for each in records(out).values()} == {"answered"}


def test_broken_lines_are_refused_under_their_own_numbers(odd):
    refused = read_lines(odd[1] / "refused.jsonl")
    assert [(each["line"], each["error"]["code"]) for each in refused] == [
        (7, "invalid_json"),
        (8, "invalid_json"),
        (9, "invalid_json"),
        (10, "invalid_task"),
        (11, "invalid_json"),
        (12, "invalid_json"),
    ]
    assert "UTF-8" in refused[0]["error"]["message"]


def test_results_have_one_line_each_for_readers_that_split_on_unicode_line_ends(odd):
    text = (odd[1] / "results.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["task_id"] for line in text.splitlines()] == list(records(odd[1]))


def test_a_line_beyond_any_request_is_refused_and_its_neighbours_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LINE_BYTES", 10)
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b"12345\n" + b"x" * 3_000_000 + b"\n1234567890\n" + b"y" * 11)
    with path.open("rb") as file:
        read = list(reading.lines(file))
    assert [(line.number, line.raw) for line in read] == [(1, b"12345"), (2, None), (3, None), (4, None)]
    assert read[-1].end == path.stat().st_size
    with pytest.raises(reading.Refused, match="more than 10 bytes"):
        _ = read[1].content


def test_reading_goes_on_at_any_line(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n\xef\xbb\xbfthree\nfour")
    with path.open("rb") as file:
        whole = list(reading.lines(file))
        rest = [list(reading.lines(file, offset=line.end, number=line.number)) for line in whole]
    assert [line.raw for line in whole] == [b"one", b"", b"\xef\xbb\xbfthree", b"four"]
    assert rest == [whole[number:] for number in range(1, 5)]


def test_a_duplicate_runs_once_and_a_conflict_leaves_the_first_alone_across_tiers(provider, tmp_path):
    first, other = task("same", "meeting_summary"), task("same", "content_generation")
    tasks = write_tasks(tmp_path / "tasks.jsonl", [first, batch_line("low"), first, other, batch_line("low"), first])
    assert provider.run(tasks, tmp_path / "out").code == 3
    assert set(records(tmp_path / "out")) == {"same", "low"}
    assert records(tmp_path / "out")["same"]["type"] == "meeting_summary"
    assert [each["line"] for each in read_lines(tmp_path / "out" / "refused.jsonl")] == [4]
    assert receipt(tmp_path / "out")["duplicates"] == 3


def test_a_file_in_which_every_line_is_refused_ends_with_3(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [b"no JSON", {}])
    assert provider.run(tasks, tmp_path / "out").code == 3
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == b""
    assert [each["line"] for each in read_lines(tmp_path / "out" / "refused.jsonl")] == [1, 2]
    assert receipt(tmp_path / "out")["reconciled"] is True


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b" \t\r\n", b"\xef\xbb\xbf\n"], ids=["empty", "lines", "blank", "bom"]
)
def test_an_input_with_nothing_in_it_is_wrong_usage(tmp_path, content):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_bytes(content)
    ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", NOWHERE)
    assert ended.code == 2
    assert said(ended) == f"{tasks} is empty: give a file with one task per line"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "why"), [("missing.jsonl", "No such file"), (".", "directory"), ("/dev/null", "regular")]
)
def test_an_input_that_is_no_readable_file_is_wrong_usage(tmp_path, name, why):
    ended = lowtide("run", tmp_path / name, "--out", tmp_path / "out", "--base-url", NOWHERE)
    assert ended.code == 2
    assert said(ended).startswith("cannot read ")
    assert why in ended.err
    assert not (tmp_path / "out").exists()


def test_an_input_that_the_run_would_overwrite_is_wrong_usage(tmp_path):
    tasks = write_tasks(tmp_path / "results.jsonl", [task("a")])
    ended = lowtide("run", tasks, "--out", tmp_path, "--base-url", NOWHERE)
    assert ended.code == 2
    assert "would be overwritten" in said(ended)
    assert set(result_files(tmp_path)) == {"results.jsonl"}
