"""What a person sees, on a terminal and without one."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from commands import LOWTIDE, QUICK, batch_line, environment, lowtide, said, task, with_small_files, write_tasks
from rich.console import Console

from lowtide.core.receipts import BatchLine, Receipt, Share
from lowtide_local.cli.summary import print_summary
from lowtide_local.report.run_report import BatchStory, Check, DeadReason, RunReport, TierLine

BATCH_ID = "batch_68f0a1b2c3d4819087e6f5a4b3c2d1e0"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks") / "tasks.jsonl", [task("a"), batch_line("b"), b"no task"])


def test_without_a_terminal_progress_is_plain_lines_on_stderr(provider, tasks, tmp_path):
    ended = provider.run(tasks, tmp_path / "out")
    assert ended.code == 3
    first, *rest = ended.err.splitlines()
    assert first.startswith("1 line is no valid task and was refused: line 3, invalid_json: not JSON")
    moved = r"[012] answered, 0 dead of 2 accepted(, 1 lines refused)?(; .*)?"
    assert [line for line in rest if not re.fullmatch(rf"{moved}|batch \S+ \(gpt-5-mini\): .*", line)] == []
    assert any(line.startswith("batch ") for line in rest)
    assert "\x1b" not in ended.out + ended.err
    assert "2 answered, 0 dead, 0 cancelled, 1 refused, 0 duplicates, 0 repaid, 0 unpriced" in ended.out
    assert f"written to {tmp_path / 'out'}: " in ended.out


def test_as_json_a_failure_leaves_stdout_empty(tmp_path):
    ended = lowtide("run", tmp_path / "missing.jsonl", "--out", tmp_path / "out", "--json")
    assert ended.code == 2
    assert "No such file" in said(ended)


def test_on_a_terminal_a_bar_moves_and_goes(simulator, tasks, tmp_path):
    slow = simulator(QUICK.replace("min_s = 0.1", "min_s = 1.5").replace("max_s = 0.3", "max_s = 1.5"))
    command = [*LOWTIDE, "run", str(tasks), "--out", str(tmp_path / "out"), "--base-url", slow.url]
    shown, code = on_a_terminal(command)
    assert code == 3
    assert "answering" in shown
    assert "1/2" in shown
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "Receipt" in plain
    assert "Traceback" not in plain


def on_a_terminal(command):
    """Everything that it shows, and its exit code."""
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment()) as process:
        os.close(theirs)
        try:
            while chunk := os.read(ours, 65_536):
                shown += chunk
        except OSError:  # Linux's way to say that the other side has closed
            pass
        finally:
            os.close(ours)
    return shown.decode(), process.returncode


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_fits_its_terminal_and_breaks_no_word(width):
    page = io.StringIO()
    print_summary(report(), Console(file=page, width=width, highlight=False))
    text = page.getvalue()
    tables = text.split("\n\n")[:4]
    assert [table.splitlines()[0].strip() for table in tables] == ["Tiers", "Batches", "Dead letters", "Receipt"]
    rows = [line for table in tables for line in table.splitlines() if ": " not in line]
    assert max(len(row.rstrip()) for row in rows) <= width
    assert text.count(BATCH_ID) == (2 if width == 120 else 0)
    assert text.count("batch_68f0…d1e0") == (0 if width == 120 else 2)
    for whole in ("gpt-4o-mini-2024-07-18", "49999 of 50000", "invalid_request_error", "$123.0030638"):
        assert whole in text
    assert "does not exist" in " ".join(tables[2].split())
    assert "FAILS  something (one of two)" in text


def report():
    share = Share(tasks=50_001, cost_usd=Decimal("123.0030638"), list_cost_usd=Decimal("246.0061276"))
    line = BatchLine(
        batch_id=BATCH_ID,
        model="gpt-4o-mini-2024-07-18",
        requests=50_000,
        answered=49_999,
        failed=1,
        status="completed",
        seconds=86_400.0,
    )
    return RunReport(
        title="a run",
        receipt=Receipt(tasks=50_001, answered=50_000, dead=1, by_lane={"batch": share}),
        tiers=[TierLine("CRITICAL", 50_001, 0.3, 4_000.0, 50_000)],
        batches=[BatchStory(line, "expired in part: 1 went into the next batch")],
        dead=[DeadReason("invalid_request_error", 3, "The model does not exist or you have no access to it. " * 4)],
        checks=[Check("something", held=False, detail="one of two")],
        finished_at=datetime(2026, 3, 1, tzinfo=UTC),
        versions={},
    )


def test_the_version_and_the_completion_of_a_shell_are_printed(tmp_path):
    ended = lowtide("--version")
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"lowtide \d+\.\d+\.\d+\n", ended.out)
    script = Path(sys.executable).with_name("lowtide")
    shown = in_bash(f"{script} --show-completion")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "complete -o default -F _lowtide_completion lowtide" in shown.stdout
    installed = in_bash(f"{script} --install-completion", HOME=str(tmp_path))
    assert (installed.returncode, installed.stderr) == (0, "")
    assert "lowtide" in (tmp_path / ".bashrc").read_text()


def in_bash(command, **variables):
    # Not the last command, which bash would become: the shell is found by its process.
    line = ["bash", "-c", f"{command}; exit $?"]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment(**variables))


def test_schema_is_one_json_document():
    ended = lowtide("schema")
    assert (ended.code, ended.err) == (0, "")
    assert "task_id" in json.dumps(json.loads(ended.out))


def test_a_full_disk_and_a_reader_that_leaves_early_are_no_tracebacks(tmp_path):
    with (tmp_path / "schema.json").open("w") as file:
        ended = schema_into(file, program=with_small_files(10))
    assert (ended.returncode, ended.stderr) == (
        1,
        "lowtide: standard output: File too large; raise the limit on the size of a file (ulimit -f)\n",
    )
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as pipe:
        ended = schema_into(pipe)
    assert (ended.returncode, ended.stderr) == (1, "")


def schema_into(file, program=LOWTIDE):
    command = [*program, "schema"]
    return subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, check=False, env=environment())


def test_wrong_usage_ends_with_2(tmp_path):
    assert lowtide("run").code == 2
    assert lowtide("no-such-verb").code == 2
    scenario = tmp_path / "scenario.toml"
    scenario.write_text("[batch]\nmin_s = 'soon'\n")
    ended = lowtide("simulate", "--port", "0", "--scenario", scenario)
    assert ended.code == 2
    assert "batch.min_s" in said(ended)
