"""Result files that come late, or hold what cannot be used: what the person in front of a run is told and left."""

from __future__ import annotations

import pytest
from commands import QUICK, SOON, batch_line, read_lines, receipt, records, write_tasks

LATE = """
[[batch.mishaps]]
kind = "late_file_ids"
seconds = 1.5
"""
AWAY = """
[[batch.mishaps]]
kind = "file_gone"
status = 410
seconds = 1.5
"""
STRAY = """
[[batch.mishaps]]
kind = "dialect"
dialects = ["stray_lines", "bom", "crlf", "status_text"]
"""


@pytest.fixture
def tasks(tmp_path):
    return write_tasks(tmp_path / "tasks.jsonl", [batch_line(f"t{n}", f"Say {n}.") for n in range(20)])


@pytest.mark.parametrize(
    ("mishap", "told"),
    [(LATE, "names no file with its answers yet"), (AWAY, "cannot be read (HTTP 410 invalid_request_error")],
)
def test_files_that_come_late_are_waited_for_in_words_and_nothing_is_bought_twice(
    simulator, tasks, tmp_path, mishap, told
):
    provider = simulator(QUICK + mishap)
    ended = provider.run(tasks, tmp_path / "out", program=SOON)
    assert ended.code == 0
    assert told in ended.err
    assert len(provider.billed()) == len(records(tmp_path / "out")) == 20
    assert receipt(tmp_path / "out")["repaid"] == 0


def test_lines_that_cannot_be_used_are_told_of_and_left_in_a_file_of_their_own(simulator, tasks, tmp_path):
    provider = simulator(QUICK + STRAY)
    ended = provider.run(tasks, tmp_path / "out", program=SOON)
    assert ended.code == 0
    assert "2 lines of its result files cannot be used (file-" in ended.err
    assert "line 1: there is no JSON object; file-" in ended.err
    assert "line 22 (nobody-1): it is about no line of this batch" in ended.err
    assert "oops" not in ended.err
    assert "2 lines of its files could not be used: see unreadable.jsonl" in ended.out
    [batch] = provider.batches()
    unread = read_lines(tmp_path / "out" / "unreadable.jsonl")
    assert [(each["batch_id"], each["line"], each["custom_id"]) for each in unread] == [
        (batch["id"], 1, None),
        (batch["id"], 22, "nobody-1"),
    ]
    assert unread[0]["raw"] == "\ufeffoops"
    assert "unreadable.jsonl" in (tmp_path / "out" / "report.html").read_text()
    assert len(records(tmp_path / "out")) == 20
    again = provider.run(tasks, tmp_path / "out", program=SOON)
    assert (again.code, read_lines(tmp_path / "out" / "unreadable.jsonl")) == (0, unread)


def test_a_run_whose_lines_can_all_be_used_leaves_no_such_file(simulator, tasks, tmp_path):
    assert simulator(QUICK).run(tasks, tmp_path / "out", program=SOON).code == 0
    assert not (tmp_path / "out" / "unreadable.jsonl").exists()
