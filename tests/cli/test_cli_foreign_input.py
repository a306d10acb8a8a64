"""Files that hold no tasks, and files in which some lines do not."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from commands import batch_line, lowtide, receipt, records, said, task, write_tasks

NOWHERE = "http://127.0.0.1:9/v1"
TASKS = [task("a"), batch_line("b")]
GOOD = b"".join(json.dumps(each).encode() + b"\n" for each in TASKS)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(GOOD, mtime=0), "gzip"),
        (json.dumps(TASKS, indent=2).encode(), "a JSON array"),
        (GOOD.replace(b"\n", b"\r"), "carriage return"),
        (GOOD.decode().encode("utf-16"), "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", "Git LFS pointer"),
        (b'{"messages": [{"role": "user", "content": "secret prompt"}]}\n', "messages without a model"),
    ],
)
def test_what_is_no_file_of_tasks_is_refused_before_anything_is_made_and_mended_runs(provider, tmp_path, content, what):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_bytes(content)
    before = provider.requests()
    ended = provider.run(tasks, tmp_path / "out")
    assert ended.code == 2
    assert said(ended).startswith(f"{tasks} looks like ")
    assert what in ended.err
    assert "secret prompt" not in ended.err
    assert not (tmp_path / "out").exists()
    assert provider.requests() == before
    tasks.write_bytes(GOOD)
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert set(records(tmp_path / "out")) == {"a", "b"}


def test_only_the_beginning_of_a_large_file_is_looked_at(tmp_path):
    """A hole of a terabyte behind it: whoever reads on never ends."""
    tasks = tmp_path / "tasks.jsonl"
    with tasks.open("wb") as file:
        file.write(b'[{"task_id": "a"},\n')
        file.truncate(1 << 40)
    ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", NOWHERE)
    assert ended.code == 2
    assert "looks like a JSON array" in said(ended)


def test_where_only_some_lines_are_wrong_the_first_are_told_with_their_reasons(provider, tmp_path):
    bad = [b"oops", {"task_id": "x"}, b'{"a": 1}', [1], {"task_id": "y", "type": "t", "request": 5}, b"{", 7]
    tasks = write_tasks(tmp_path / "tasks.jsonl", [TASKS[0], *bad, TASKS[1]])
    ended = provider.run(tasks, tmp_path / "out")
    assert ended.code == 3
    assert ended.err.splitlines()[0].startswith("7 lines are no valid tasks; the first: line 2, invalid_json: not JSON")
    shown = ended.out[ended.out.index("Refused lines (and 2 more in refused.jsonl)") :]
    assert re.findall(r"^ *(\d+)  (\w+)  \S", shown, re.MULTILINE)[:5] == [
        ("2", "invalid_json"),
        ("3", "invalid_task"),
        ("4", "invalid_task"),
        ("5", "invalid_task"),
        ("6", "invalid_task"),
    ]
    again = provider.run(tasks, tmp_path / "out", "--json")
    assert again.code == 3
    assert json.loads(again.out)["refused"] == 7


def test_azures_batch_lines_run_as_they_are(provider, tmp_path):
    line = {**batch_line("azure"), "url": "/chat/completions"}
    tasks = write_tasks(tmp_path / "tasks.jsonl", [line, {**line, "custom_id": "other", "url": "/v1/chat/completions"}])
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert {each["lane"] for each in records(tmp_path / "out").values()} == {"batch"}
    assert receipt(tmp_path / "out")["answered"] == 2
