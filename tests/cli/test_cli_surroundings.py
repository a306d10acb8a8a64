"""Odd surroundings: closed streams, readers that leave, names that are no text, variables that make no sense."""

from __future__ import annotations

import os
import subprocess

import pytest
from commands import LOWTIDE, environment, finish, patched, records, result_files, said, start, task, write_tasks

from lowtide.adapters.clock import WallClock
from lowtide_local.cli.stop import ExitCode, Stop
from lowtide_local.run import directory
from lowtide_local.run.reading import check_input


@pytest.fixture
def tasks(tmp_path):
    return write_tasks(tmp_path / "tasks.jsonl", [task("a")])


@pytest.mark.parametrize("closed", [[1], [0, 1, 2]], ids=["stdout", "all"])
def test_a_stream_that_is_closed_costs_nothing(provider, tasks, tmp_path, closed):
    def close():
        for number in closed:
            os.close(number)

    ended = subprocess.run(
        [*LOWTIDE, "run", str(tasks), "--out", str(tmp_path / "out"), "--base-url", provider.url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        preexec_fn=close,
    )
    assert ended.returncode == 0
    assert "defect" not in ended.stdout + ended.stderr
    assert set(records(tmp_path / "out")) == {"a"}


def test_a_reader_that_leaves_after_the_first_line_loses_no_record(provider, tasks, tmp_path):
    process = start("run", tasks, "--out", tmp_path / "out", "--base-url", provider.url, PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    assert "Traceback" not in finish(process).err
    assert set(records(tmp_path / "out")) == {"a"}
    assert len(result_files(tmp_path / "out")) == 5


def test_names_that_are_no_utf8_are_as_good_as_any(provider, tasks, tmp_path):
    odd = tasks.rename(tmp_path / os.fsdecode(b"t\xffsks.jsonl"))
    out = tmp_path / os.fsdecode(b"o\xffut")
    ended = finish(start("run", odd, "--out", out, "--base-url", provider.url))
    assert ended.code == 0
    assert "lowtide run t\N{REPLACEMENT CHARACTER}sks.jsonl" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("/" + "x" * 300, "File name too long"),
        ("/proc/nowhere", "cannot write to --out"),
        ("/dev/null", "is a file"),
        ("loop", "cannot write to --out"),
        ("dangling", "cannot write to --out"),
    ],
)
def test_an_out_that_cannot_be_had_is_wrong_usage(tmp_path, out, why):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "else")

    def begin():
        if not directory.check_free(tmp_path / out, "mark", WallClock()):
            with directory.opened(tmp_path / out, "mark", WallClock()):
                pass

    with pytest.raises(Stop, match=why) as stopped:
        begin()
    assert stopped.value.code is ExitCode.USAGE


@pytest.mark.parametrize("name", ["loop", "fifo", "x" * 300, "a\nb", "."])
def test_an_input_of_another_kind_is_wrong_usage(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Stop, match="cannot read ") as stopped:
        check_input(tmp_path / name, tmp_path / "out")
    assert stopped.value.code is ExitCode.USAGE


def test_an_input_is_not_read_from_a_circle_of_links_in_out(tasks, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    check_input(tasks, tmp_path / "loop")


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "0", "LANG": "C", "LC_ALL": "C"},
        {"COLUMNS": "-5", "HOME": None, "PATH": None, "TERM": None},
        {"COLUMNS": "99999999999999999999", "LC_ALL": "xx_YY.garbage", "PYTHONIOENCODING": "ascii", "TMPDIR": "/no"},
    ],
    ids=str,
)
def test_variables_that_make_no_sense_change_nothing(provider, tasks, tmp_path, variables):
    ended = provider.run(tasks, tmp_path / "out", **variables)
    assert ended.code == 0
    assert "1 answered" in ended.out
    assert "defect" not in ended.err


def test_without_file_locks_one_line_says_which_systems_there_are(tasks, tmp_path):
    """As on Windows, where Python has no fcntl."""
    program = patched("import sys; sys.modules['fcntl'] = None")
    ended = finish(
        start("run", tasks, "--out", tmp_path / "out", "--base-url", "http://127.0.0.1:9/v1", program=program)
    )
    assert ended.code == 1
    assert said(ended) == (
        "lowtide keeps its state under a file lock that this system does not have: use Linux or macOS, "
        "or Linux inside Windows (WSL)"
    )
    assert not (tmp_path / "out").exists()
